"""Reading the small JSON bodies of routes that are not an endpoint's."""

import json
from typing import Any

from starlette.requests import Request

from gateway.errors import PlatformError


async def json_object(request: Request, max_bytes: int) -> dict[str, Any]:
    """The body as a JSON object; none at all is an empty object.

    Raises PlatformError: 413 above `max_bytes`, else 400.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise PlatformError("bad_request", f"The body is larger than {max_bytes} bytes.", status=413)
    if not body.strip():
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise PlatformError("bad_request", "The body is not valid JSON.") from None
    if not isinstance(found, dict):
        raise PlatformError("bad_request", "The body must be a JSON object.")
    return found
