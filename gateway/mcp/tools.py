"""The tools: what there is to draw with, runs, requests in the queue, uploads."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mcp.types import CallToolResult, ImageContent, Tool, ToolAnnotations
from starlette.requests import Request

from gateway.endpoints import ENDPOINTS, Endpoint, app_of
from gateway.errors import ModelError, PlatformError, ServiceError, StoreUnavailable, ValidationErrors
from gateway.files.body import received, too_large
from gateway.files.uploads import Uploads
from gateway.http.auth import caller
from gateway.http.hosts import cdn_root, queue_root
from gateway.http.inputs import from_base64
from gateway.http.outputs import content_of
from gateway.http.platform_models import category_of, description_of
from gateway.http.queue import CANCELLATIONS, PENDING, RequestQueue
from gateway.http.responses import OnStoreUnavailable, accepted_object, status_object
from gateway.http.run import RunNews, SyncRuns
from gateway.http.storage import file_url, granted, signed_url
from gateway.http.submission import unknown_endpoint
from gateway.keys.base import Scope
from gateway.ledger.models import Answer
from gateway.mcp import arguments as given
from gateway.mcp.results import image_of, refusal_of, refused, told, without_data
from gateway.validation import validated

RUN = "run"

Tell = Callable[[float, float], Awaitable[None]]
"""Says how far a call is: steps that are done, and all."""
Given = TypeVar("Given", bound=given.Arguments)

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
ENDS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)

logger = logging.getLogger("fooocus.gateway")


@dataclass(frozen=True, slots=True)
class Calling:
    """A call of a tool. request: the HTTP request that it came with. tell: None where nobody listens how far it is."""

    request: Request
    tell: Tell | None = None


class Tools:
    """Each one translates its arguments into what fal's routes do, and the answer back. uploads: None where nothing
    bounds them, and then there is no tool for them.
    """

    def __init__(self, runs: SyncRuns, requests: RequestQueue, uploads: Uploads | None) -> None:
        self._parts, self._runs, self._requests, self._uploads = runs.parts, runs, requests, uploads
        self._on_away = OnStoreUnavailable(runs.parts.monitor)
        self.listed: dict[str, Tool] = {}
        self._calls: dict[str, Callable[[Calling, Any], Awaitable[CallToolResult]]] = {}
        drawing = "Draw now and wait for the pictures: seconds to minutes. What may wait longer goes by submit."
        state = "Whether a request waits, and behind how many, runs or has ended."
        self._add("list_endpoints", "What there is to draw with.", READS, given.Nothing, self._list)
        self._add("schema", "JSON schemas of an endpoint's input and output.", READS, given.OfEndpoint, self._schema)
        self._add(RUN, drawing, ADDS, given.Running, self._run)
        self._add("submit", "Put a request into the queue, to be drawn later.", ADDS, given.Asking, self._submit)
        self._add("status", state, READS, given.Following, self._status)
        self._add("result", "The pictures of a request that has ended.", READS, given.Fetching, self._result)
        self._add("cancel", "Cancel a request that has not ended.", ENDS, given.OfRequest, self._cancel)
        if uploads is not None:
            storing = "Store a file, such as a picture to change; an input names it by the address that is answered."
            self._add("upload", storing, ADDS, given.Uploading, self._upload)

    def _add(
        self,
        name: str,
        description: str,
        annotations: ToolAnnotations,
        arguments: type[Given],
        call: Callable[[Calling, Given], Awaitable[CallToolResult]],
    ) -> None:
        async def checked(calling: Calling, sent: Mapping[str, Any]) -> CallToolResult:
            return await call(calling, validated(arguments, sent))

        schema = arguments.model_json_schema()
        self.listed[name] = Tool(name=name, description=description, input_schema=schema, annotations=annotations)
        self._calls[name] = checked

    async def call(self, name: str, calling: Calling, sent: Mapping[str, Any]) -> CallToolResult:
        """Faults are results too, which say that they are. Raises KeyError for a tool that there is not."""
        call = self._calls[name]
        try:
            return await call(calling, sent)
        except StoreUnavailable as away:
            await self._on_away(calling.request, away)
            return refusal_of(away)
        except ServiceError as fault:
            return refusal_of(fault)
        except Exception:
            logger.exception("the tool %s failed", name)
            return refusal_of(PlatformError("internal_error", "An internal error occurred."))

    async def _list(self, calling: Calling, asked: given.Nothing) -> CallToolResult:
        endpoints = [
            {"endpoint_id": endpoint.id, "category": category_of(endpoint), "description": description_of(endpoint)}
            for endpoint in ENDPOINTS.values()
        ]
        return told({"endpoints": endpoints})

    async def _schema(self, calling: Calling, asked: given.OfEndpoint) -> CallToolResult:
        endpoint = _endpoint(asked)
        schemas = {
            "input": endpoint.input.model_json_schema(),
            "output": endpoint.output.model_json_schema(mode="serialization"),
        }
        return told({"endpoint_id": endpoint.id, **schemas})

    async def _run(self, calling: Calling, asked: given.Running) -> CallToolResult:
        request, news = calling.request, RunNews()
        listen = None if calling.tell is None else news.put
        begun = await self._runs.begin(request, _endpoint(asked), asked.input, listen)
        telling = None if calling.tell is None else asyncio.create_task(_pass_on(news, calling.tell))
        try:
            answer = await begun.answer()
        finally:
            if telling is not None:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)
        return await self._drawn(request, begun.request_id, answer, asked.pictures, begun.order.inactive)

    async def _submit(self, calling: Calling, asked: given.Asking) -> CallToolResult:
        endpoint = _endpoint(asked)
        accepted, order = await self._requests.submit(calling.request, endpoint, asked.input)
        body = accepted_object(accepted, endpoint.app, self._queue_root(calling.request))
        return told({**body, "endpoint_id": endpoint.id, **_inactive(order.inactive)})

    async def _status(self, calling: Calling, asked: given.Following) -> CallToolResult:
        status = await self._requests.status(calling.request, _app(asked), asked.request_id)
        logs = await self._requests.logs(status) if asked.logs else None
        return told({**status_object(status, logs, self._queue_root(calling.request))})

    async def _result(self, calling: Calling, asked: given.Fetching) -> CallToolResult:
        answer = await self._requests.answer(calling.request, _app(asked), asked.request_id)
        if answer is None:
            raise PlatformError("bad_request", PENDING)
        return await self._drawn(calling.request, asked.request_id, answer, asked.pictures)

    async def _cancel(self, calling: Calling, asked: given.OfRequest) -> CallToolResult:
        status, body = CANCELLATIONS[await self._requests.cancel(calling.request, _app(asked), asked.request_id)]
        return refused(status, {**body}) if status >= 400 else told({**body})

    async def _upload(self, calling: Calling, asked: given.Uploading) -> CallToolResult:
        request, uploads, settings = calling.request, self._uploads, self._parts.settings
        assert uploads is not None  # noqa: S101 (there is no such tool otherwise)
        if not caller(request).may(Scope.STORAGE):
            raise PlatformError("forbidden", f"The API key lacks the scope '{Scope.STORAGE}'.", status=403)
        grant = granted(request, uploads, settings, asked.content_type, asked.file_name, multipart=False)
        root = cdn_root(request, settings.public_url)
        found = {"file_url": file_url(root, grant)}
        if asked.content is None:
            return told({"upload_url": signed_url(root, uploads, grant), **found})
        content = await asyncio.to_thread(_from_base64, asked.content)
        if len(content) > uploads.max_bytes:
            raise too_large(uploads.max_bytes)
        async with received(_once(content), uploads.folder) as body:
            await uploads.whole(grant, body)
        return told(found)

    async def _drawn(
        self, request: Request, request_id: str, answer: Answer, pictures: bool, inactive: tuple[str, ...] = ()
    ) -> CallToolResult:
        if answer.status != 200:
            return refused(answer.status, {"request_id": request_id, **answer.body})
        output, images = answer.body, list[ImageContent]()
        for image in output["images"] if pictures else ():
            content = await content_of(image, request, self._parts)
            if content is not None:
                images.append(await image_of(content, image["content_type"]))
        return told({"request_id": request_id, **without_data(output), **_inactive(inactive)}, images)

    def _queue_root(self, request: Request) -> str:
        return queue_root(request, self._parts.settings.public_url)


def _endpoint(asked: given.OfEndpoint) -> Endpoint:
    endpoint = ENDPOINTS.get(asked.endpoint_id)
    if endpoint is None:
        raise unknown_endpoint(asked.endpoint_id, "Endpoint")
    return endpoint


def _app(asked: given.OfRequest) -> str:
    return app_of(asked.endpoint_id)


def _inactive(names: tuple[str, ...]) -> dict[str, Any]:
    return {"inactive": [*names]} if names else {}


async def _pass_on(news: RunNews, tell: Tell) -> None:
    while True:
        await news.filled.wait()
        found = news.read()
        if found is not None:
            await tell(found["step"], found["steps"])


def _from_base64(text: str) -> bytes:
    try:
        return from_base64(text.encode("ascii"))
    except ValueError:
        raise ValidationErrors([ModelError("value_error", "Input should be base64", ("content",))]) from None


async def _once(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content
