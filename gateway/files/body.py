"""A body as a file: counted, hashed and told by content, never whole in memory."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from gateway.errors import PlatformError, StoreUnavailable
from gateway.files.store import UNKNOWN_TYPE
from gateway.images.codec import sniff

IN_MEMORY = 1024 * 1024  # bytes of a body that are not written to disk
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
async def received(chunks: AsyncGenerator[bytes, None], folder: Path) -> AsyncIterator[Received]:
    """The body that comes in `chunks`. folder: where a large one lies meanwhile.

    Raises what `chunks` raises, and StoreUnavailable when the folder cannot be written.
    """
    with spooled(folder) as file:
        size, digest, head = 0, hashlib.sha256(), b""
        piece = bytearray()
        async with aclosing(chunks):
            async for chunk in chunks:
                size += len(chunk)
                piece += chunk
                if len(piece) >= _PIECE:
                    head = head or bytes(piece[:_HEAD])
                    await asyncio.to_thread(_take, file, digest, bytes(piece))
                    piece.clear()
        head = head or bytes(piece[:_HEAD])
        await asyncio.to_thread(_take, file, digest, bytes(piece))
        await asyncio.to_thread(file.seek, 0)
        yield Received(file, size, digest.hexdigest(), type_of(head))


@contextmanager
def spooled(folder: Path) -> Iterator[BinaryIO]:
    """A file without a name, in memory while it is small. An OSError while it is used means StoreUnavailable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(folder)) as file:
            yield cast("BinaryIO", file)
    except OSError as fault:
        raise StoreUnavailable("files") from fault


def too_large(max_bytes: int) -> PlatformError:
    return PlatformError("bad_request", f"The file is larger than the {max_bytes} bytes that are accepted.", status=413)


def _take(file: BinaryIO, digest: "hashlib._Hash", piece: bytes) -> None:
    digest.update(piece)
    file.write(piece)
