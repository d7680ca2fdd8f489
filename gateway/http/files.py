"""Produced and uploaded files: who may read one, and with what headers a browser gets it."""

import re
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.errors import PlatformError
from gateway.files.base import FILES, FileInfo
from gateway.files.names import disposition
from gateway.files.store import UNKNOWN_TYPE
from gateway.http.auth import caller
from gateway.http.parts import Parts
from gateway.http.platform_files import signed
from gateway.http.responses import error_response
from gateway.http.routes import Route
from gateway.images.codec import CONTENT_TYPES
from gateway.keys.base import Scope
from gateway.keys.tokens import Purpose, Tokens
from gateway.policy import decide

SERVED = ("outputs/", "uploads/")
SHOWN = frozenset(CONTENT_TYPES.values())  # everything else is downloaded, for a browser might run it
YEAR_S = 365 * 24 * 3600
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def media_routes(parts: Parts, tokens: Tokens) -> list[Route]:
    files, access = parts.files, parts.settings.files_access

    async def media(request: Request) -> Response:
        info = await _found(request)
        terms = info.terms
        decision = decide(terms.owner, terms.acl, caller(request), access)
        if decision != "allow" and await signed(request, info.key, tokens, parts.keys):
            decision = "allow"
        if decision == "forbid":
            raise PlatformError("forbidden", "You may not read this file.", status=403)
        if decision == "hide":
            raise _missing()
        # whether everybody may read it, so that a cache between us and them may keep it
        public = access == "public" and (terms.acl is None or (terms.acl.default == "allow" and not terms.acl.rules))
        headers = _headers(info, public)
        if headers["etag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        status, start, end = _asked_range(request, info.size)
        if status == 416:
            fault = PlatformError("bad_request", f"The range is outside the file's {info.size} bytes.", status=416)
            return error_response(fault, {"content-range": f"bytes */{info.size}"})
        if status == 206:
            headers["content-range"] = f"bytes {start}-{end - 1}/{info.size}"
        headers["content-length"] = str(end - start)
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        pieces = files.open(info.key, start, end - start)
        # before the answer begins, for a store that is away can still be told then
        first = await anext(pieces, b"")
        if not first and start < end:
            raise _missing()
        return StreamingResponse(_from(first, pieces), status, headers)

    async def _found(request: Request) -> FileInfo:
        key = request.path_params["key"]
        try:
            # what came inside a request is its sender's alone, and is not asked for here
            info = await files.stat(key) if key.startswith(SERVED) else None
        except ValueError:
            info = None
        if info is None:
            raise _missing()
        return info

    terms: dict[str, Any] = {"methods": ["GET"], "needs": Scope.STORAGE, "reads_a_file": True}
    path = f"{FILES}{{key:path}}"
    return [Route(path, media, **terms), Route(f"/cdn{path}", media, token=Purpose.STORAGE, **terms)]


async def _from(first: bytes, others: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in others:
        yield piece


def _headers(info: FileInfo, public: bool) -> dict[str, str]:
    shown = info.content_type in SHOWN
    name = info.terms.file_name or info.key.rpartition("/")[2]
    seconds = YEAR_S
    if info.terms.expires_at is not None:
        seconds = max(0, min(seconds, int(info.terms.expires_at - time.time())))
    return {
        "accept-ranges": "bytes",
        "cache-control": f"{'public' if public else 'private'}, max-age={seconds}, immutable",
        "content-disposition": disposition("inline" if shown else "attachment", name),
        "content-security-policy": "default-src 'none'; sandbox",
        "content-type": info.content_type if shown else UNKNOWN_TYPE,
        "etag": f'"{info.etag}"',
        "x-content-type-options": "nosniff",
    }


def _asked_range(request: Request, size: int) -> tuple[int, int, int]:
    """(status, first byte, byte after the last). Only a single range is served; other wishes get the whole."""
    asked = _RANGE.fullmatch(request.headers.get("range", ""))
    if asked is None or asked.groups() == ("", "") or "if-range" in request.headers:
        return 200, 0, size
    first, last = asked.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    return (206, start, end) if start < end <= size else (416, 0, 0)


def _missing() -> PlatformError:
    return PlatformError("bad_request", "File not found", status=404)
