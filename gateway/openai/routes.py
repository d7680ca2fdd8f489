"""OpenAI's routes: the endpoints as its models, generations and edits as runs of them."""

import asyncio
import base64
import time
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.endpoints import ENDPOINTS, Endpoint
from gateway.errors import ModelError, PlatformError, ValidationErrors
from gateway.http.hosts import OPENAI
from gateway.http.outputs import content_of
from gateway.http.platform_models import SINCE
from gateway.http.request_body import json_bytes, parsed
from gateway.http.responses import REQUEST_ID, inactive_headers
from gateway.http.routes import Route, methods_of
from gateway.http.run import SyncRuns
from gateway.keys.base import Scope
from gateway.openai.errors import error_answer
from gateway.openai.forms import read_form
from gateway.openai.translation import Translated, model_named, translated

ROOT = f"{OPENAI}v1"


def openai_routes(runs: SyncRuns) -> list[Route]:
    openai = _OpenAi(runs)
    by_key: dict[str, Any] = {"needs": Scope.RUN, "bearer": True}
    every = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return [
        Route(f"{ROOT}/models", openai.models, methods=["GET"], **by_key),
        Route(f"{ROOT}/models/{{model:path}}", openai.model, methods=["GET"], **by_key),
        Route(f"{ROOT}/images/generations", openai.generate, methods=["POST"], **by_key),
        Route(f"{ROOT}/images/edits", openai.edit, methods=["POST"], **by_key),
        Route(f"{OPENAI}{{path:path}}", openai.other, methods=every, **by_key),
    ]


class _OpenAi:
    def __init__(self, runs: SyncRuns) -> None:
        self._runs, self._parts = runs, runs.parts

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_model(endpoint) for endpoint in ENDPOINTS.values()]})

    async def model(self, request: Request) -> Response:
        return JSONResponse(_model(model_named(request.path_params["model"])))

    async def generate(self, request: Request) -> Response:
        body = await json_bytes(request, self._parts.settings.max_body_bytes)
        sent = parsed(request, body, partial(PlatformError, "bad_request"))
        if not isinstance(sent, dict):
            raise PlatformError("bad_request", "The body must be a JSON object.")
        return await self._drawn(request, translated(sent))

    async def edit(self, request: Request) -> Response:
        settings = self._parts.settings
        form = await read_form(request, settings.max_body_bytes)
        work = asyncio.to_thread(translated, form.fields, form.images, form.mask, settings.max_image_pixels)
        return await self._drawn(request, await work)

    async def other(self, request: Request) -> Response:
        if methods_of(request):
            raise HTTPException(405)
        text = f"Only models, images/generations and images/edits are served under {ROOT}."
        raise PlatformError("unknown_url", text, status=404)

    async def _drawn(self, request: Request, what: Translated) -> Response:
        try:
            begun = await self._runs.begin(request, what.endpoint, what.payload)
        except (ModelError, ValidationErrors) as fault:
            return error_answer(fault.status, fault.body(), fault.headers(), what.names)
        answer = await begun.answer()
        headers = {REQUEST_ID: begun.request_id, **inactive_headers((*what.inactive, *begun.order.inactive))}
        if answer.status != 200:
            return error_answer(answer.status, answer.body, {**answer.headers, **headers}, what.names)
        return JSONResponse(await self._told(request, what, answer.body), headers=headers)

    async def _told(self, request: Request, what: Translated, output: Mapping[str, Any]) -> dict[str, Any]:
        images = output["images"]
        by_address = what.asked.response_format == "url"
        data = [{"url": one["url"]} if by_address else await self._whole(request, one) for one in images]
        drawn = output.get("prompt")
        if drawn is not None and drawn != what.asked.prompt:  # with the words that were added
            data = [{**one, "revised_prompt": drawn} for one in data]
        told = {"created": int(time.time()), "background": "opaque", "data": data}
        told["has_nsfw_concepts"] = output["has_nsfw_concepts"]
        if images:
            told["output_format"] = images[0]["content_type"].partition("/")[2]
            told["size"] = f"{images[0]['width']}x{images[0]['height']}"
        return told

    async def _whole(self, request: Request, image: Mapping[str, Any]) -> dict[str, Any]:
        content = await content_of(image, request, self._parts)
        if content is None:
            raise PlatformError("internal_error", "The picture was drawn, but its file is not there any more.")
        return {"b64_json": await asyncio.to_thread(_in_base64, content)}


def _in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _model(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "object": "model",
        "created": int(datetime.fromisoformat(SINCE).timestamp()),
        "owned_by": endpoint.id.partition("/")[0],
    }
