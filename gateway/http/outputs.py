"""Produced pictures as bytes, for protocols that hand them over instead of their addresses."""

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request

from gateway.errors import ModelError
from gateway.files.base import FILES
from gateway.files.store import is_key
from gateway.http.parts import Parts
from gateway.http.submission import own_files

DATA = "data:"


async def content_of(image: Mapping[str, Any], request: Request, parts: Parts) -> bytes | None:
    """The file of a picture of an output; None where there is none any more, or none that the caller may read."""
    url: str = image["url"]
    if url.startswith(DATA):
        return base64.b64decode(url.partition(",")[2])
    key = urlsplit(url).path.removeprefix(FILES)  # it is an output of ours, under whatever name it was asked for
    if not is_key(key):
        return None
    try:
        return await own_files(request, parts).read(key, parts.settings.max_upload_bytes, "images")
    except ModelError:
        return None
