"""Bodies in memory: as bytes, and as the small JSON objects of routes that are not an endpoint's."""

import json
from contextlib import aclosing
from typing import Any

from starlette.requests import Request

from gateway.errors import PlatformError
from gateway.http.receiving import chunks


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
    except (ValueError, RecursionError):
        raise PlatformError("bad_request", "The body is not valid JSON.") from None
    if not isinstance(found, dict):
        raise PlatformError("bad_request", "The body must be a JSON object.")
    return found
