"""OpenAI's shape of errors, made of the service's own: `{"error": {"message", "type", "param", "code"}}`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http.hosts import OPENAI
from gateway.http.responses import ERROR_SHAPE, REQUEST_ID

OPENAI_REQUEST_ID = "x-request-id"
SHOULD_RETRY = "x-should-retry"  # what OpenAI's clients believe more than the status

_TYPES: Mapping[int, str] = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES: Mapping[int, str] = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
_NO_NAMES: Mapping[str, str] = MappingProxyType({})


class OpenAiAnswers:
    """Gives what is answered under `/openai/` OpenAI's shape of errors, whoever refuses the call, and the id of the
    request under the name that OpenAI's clients read. Stands in front of everything else.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not f"/{scope['path'].lstrip('/')}".startswith(OPENAI):
            return await self._app(scope, receive, send)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault(OPENAI_REQUEST_ID, headers.get(REQUEST_ID, ""))
            await send(message)

        return await self._app({**scope, ERROR_SHAPE: error_answer}, receive, send_with_id)


def error_answer(
    status: int, body: Mapping[str, Any], headers: Mapping[str, str], names: Mapping[str, str] = _NO_NAMES
) -> Response:
    """An error of ours as OpenAI would answer it. names: what the client calls the fields of the endpoint's input."""
    detail = body.get("detail")
    first: Mapping[str, Any] = detail[0] if isinstance(detail, list) and detail else {}
    told = {
        "message": _message(body, names),
        "type": "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error"),
        "param": _param(first, names),
        "code": _CODES.get(status) or first.get("type") or body.get("error_type"),
    }
    retry = {SHOULD_RETRY: retried} if status >= 500 and (retried := headers.get("x-fal-retryable")) else {}
    # what is wrong with an input is a 400 there
    return JSONResponse({"error": told}, 400 if status == 422 else status, {**headers, **retry})


def _message(body: Mapping[str, Any], names: Mapping[str, str]) -> str:
    detail = body.get("detail")
    if not isinstance(detail, list):
        return str(body.get("message") or detail)
    faults = [(_param(entry, names), entry["msg"]) for entry in detail]
    return "; ".join(f"{param}: {msg}" if param else msg for param, msg in faults)


def _param(entry: Mapping[str, Any], names: Mapping[str, str]) -> str | None:
    """The field that a fault is about, under the name that the client sent it by."""
    way = [str(part) for part in entry.get("loc", ())[1:]]
    if not way:
        return None
    return names.get(way[0]) or ".".join(way)
