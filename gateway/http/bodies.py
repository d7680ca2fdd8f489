"""Bodies in memory: as bytes, and as the small JSON objects of routes that are not an endpoint's."""

import json
from contextlib import aclosing
from typing import Any

from starlette.requests import Request

from gateway.errors import PlatformError
from gateway.http.receiving import chunks

_GZIP = b"\x1f\x8b"
_FORMS = frozenset({"multipart/form-data", "application/x-www-form-urlencoded"})
_MAX_SHOWN = 40  # characters of a header that are repeated


async def body_bytes(request: Request, max_bytes: int, key: str | None = None) -> bytes:
    """The whole body. key: whose it is, where that is not the caller. Raises PlatformError: 408, 413, 499."""
    body = bytearray()
    async with aclosing(chunks(request, max_bytes, key)) as pieces:
        async for piece in pieces:
            body += piece
    return bytes(body)


async def json_object(request: Request, max_bytes: int, key: str | None = None) -> dict[str, Any]:
    """The body as a JSON object; none at all is an empty object.

    Raises PlatformError: as `body_bytes`, and 400 for what is no JSON object.
    """
    body = await body_bytes(request, max_bytes, key)
    if not body.strip():
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as fault:
        raise PlatformError("bad_request", unreadable(request, body, fault)) from None
    if not isinstance(found, dict):
        raise PlatformError("bad_request", "The body must be a JSON object.")
    return found


def unreadable(request: Request, body: bytes, fault: Exception) -> str:
    """What a client is told of a body that json.loads refused with `fault`: what it is instead, where one can tell."""
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    packed = request.headers.get("content-encoding", "identity").strip().lower()
    if body.startswith(_GZIP):
        packed = "gzip"
    if packed not in ("", "identity"):
        return f"The body is compressed ({packed[:_MAX_SHOWN]}), which is not unpacked here; send it as it is."
    if declared in _FORMS or body.startswith(b"--"):
        return (
            "The body is a form; send the input as a JSON object. A picture in it is an address, that of an upload, or "
            "a data URI."
        )
    if isinstance(fault, UnicodeDecodeError):
        before = fault.object[: fault.start].decode(errors="replace")
        place = _place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        return f"The body is not encoded in UTF-8, as JSON is; send it in UTF-8. What is not begins at {place}."
    if isinstance(fault, json.JSONDecodeError):
        return f"The body is not valid JSON. {fault.msg.rstrip(': ')}: {_place(fault.lineno, fault.colno)}."
    if isinstance(fault, RecursionError):
        return "The body is not valid JSON. It has too many levels of lists and objects."
    return "The body is not valid JSON. A number in it has too many digits."  # all that is left of json's refusals


def _place(line: int, column: int) -> str:
    return f"line {line}, column {column}"
