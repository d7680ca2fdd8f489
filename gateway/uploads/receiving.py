"""Receiving the body of a call as a file: counted, hashed and told by content, never whole in memory."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from starlette.requests import ClientDisconnect, Request

from gateway.errors import PlatformError
from gateway.files.store import UNKNOWN_TYPE
from gateway.media import sniff

IN_MEMORY = 1024 * 1024  # bytes of a body that are not written to disk
DRAINED = 16 * 1024 * 1024  # bytes beyond the cap that are still read, so that their sender hears the answer
_PIECE = 256 * 1024
_HEAD = 64  # bytes that tell a type


@dataclass(frozen=True, slots=True)
class Received:
    """file: of `size` bytes, gone when the call ends. sha256 in hex. content_type: told by content."""

    file: BinaryIO
    size: int
    sha256: str
    content_type: str


def type_of(head: bytes) -> str:
    """The content type by the first bytes; what no browser may show is `application/octet-stream`."""
    return sniff(head) or UNKNOWN_TYPE


@asynccontextmanager
async def received(request: Request, max_bytes: int, folder: Path) -> AsyncIterator[Received]:
    """The body of `request`. folder: where large ones lie meanwhile. Raises PlatformError: 413 above `max_bytes`, or
    499 when the client leaves before the end."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes + DRAINED:
        raise too_large(max_bytes)
    with opened(folder) as file:
        size, digest, head = 0, hashlib.sha256(), b""
        piece = bytearray()
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > max_bytes + DRAINED:
                    raise too_large(max_bytes)
                if size > max_bytes:
                    continue
                piece += chunk
                if len(piece) >= _PIECE:
                    head = head or bytes(piece[:_HEAD])
                    await asyncio.to_thread(_take, file, digest, bytes(piece))
                    piece.clear()
        except ClientDisconnect:
            raise PlatformError("client_disconnected", "The client left before its file had arrived.") from None
        if size > max_bytes:
            raise too_large(max_bytes)
        head = head or bytes(piece[:_HEAD])
        _take(file, digest, bytes(piece))
        file.seek(0)
        yield Received(file, size, digest.hexdigest(), type_of(head))


def opened(folder: Path) -> BinaryIO:
    """A file without a name, in memory while it is small."""
    folder.mkdir(parents=True, exist_ok=True)
    return cast("BinaryIO", tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(folder)))


def too_large(max_bytes: int) -> PlatformError:
    return PlatformError("bad_request", f"The file is larger than the {max_bytes} bytes that are accepted.", status=413)


def _take(file: BinaryIO, digest: "hashlib._Hash", piece: bytes) -> None:
    digest.update(piece)
    file.write(piece)
