"""The files store on any place for bytes: keys of our form, types, expiry, parts of uploads."""

import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from io import BytesIO
from itertools import takewhile
from typing import BinaryIO, ParamSpec, TypeVar
from urllib.parse import quote, unquote

from gateway.errors import StoreUnavailable
from gateway.files.base import FileInfo, FileTerms, Part, Stored
from gateway.files.blobs import Blob, Blobs, Threads
from gateway.images.codec import INPUT_TYPES
from gateway.policy import Acl

UNFINISHED_S = 24 * 3600  # after which the parts of an upload are removed
UNKNOWN_TYPE = "application/octet-stream"
# suffixes that an upload's key may have; what the file is told as is sniffed all the same
UPLOAD_SUFFIXES = frozenset({*INPUT_TYPES, "bin", "json", "safetensors", "txt", "zip"})

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_KEY = re.compile(rf"(?P<area>inputs|outputs|uploads)/{_UUID}/[A-Za-z0-9_-]{{1,100}}\.(?P<suffix>[a-z0-9]+)", re.ASCII)
_WEIGHTS = re.compile(r"weights/[0-9a-f]{64}\.safetensors")
_UPLOAD = re.compile(rf"(?P<begun>\d{{12}})/{_UUID}", re.ASCII)
_PIECE = 4 * 1024 * 1024
# An object that expires is also named here, by when, so that the sweep need not look at the others.
_EXPIRING = "expiring/"
_STAGING = "staging/"
# What is written to find out whether anything can be: one file for all who ask, and as large as would not fit any more
# where a disk is nearly full. It is where pictures go, for that may be a mount, or a prefix with rights, of its own; it
# is no key, so nobody is served it.
PROBE = "outputs/probe"
_PROBE_SIZE = 256 * 1024

P = ParamSpec("P")
T = TypeVar("T")


def moment(seconds: float) -> str:
    """Unix seconds as text that sorts."""
    return f"{int(seconds):012d}"


def is_key(text: str) -> bool:
    """Whether `text` is of the form of keys."""
    if _WEIGHTS.fullmatch(text) is not None:
        return True
    matched = _KEY.fullmatch(text)
    return matched is not None and matched["suffix"] in (
        UPLOAD_SUFFIXES if matched["area"] == "uploads" else frozenset(INPUT_TYPES)
    )


class FileStore:
    """`gateway.files.base.Files` on `blobs`. Several processes may share them. clock: Unix seconds."""

    def __init__(self, blobs: Blobs, clock: Callable[[], float] = time.time, threads: Threads | None = None) -> None:
        self._blobs, self._clock, self._threads = blobs, clock, threads or Threads()

    async def check(self) -> None:
        await self._ask(self._probe)

    async def put(self, key: str, content: bytes, content_type: str, terms: FileTerms = FileTerms()) -> None:  # noqa: B008 (frozen)
        """Raises ValueError also when the key's suffix does not mean `content_type`."""
        await self.save(key, BytesIO(content), content_type, hashlib.sha256(content).hexdigest(), terms)

    async def save(self, key: str, file: BinaryIO, content_type: str, etag: str, terms: FileTerms) -> None:
        _check(key)
        if not key.startswith("uploads/") and _type(key) != content_type:
            raise ValueError(f"the suffix of {key!r} does not mean {content_type!r}")
        if terms.expires_at is not None:
            # first, so that nothing which expires is ever without it
            mark = f"{_EXPIRING}{moment(terms.expires_at)}/{key}"
            await self._ask(self._blobs.write, mark, BytesIO(), {})
        notes = {"type": content_type, "etag": etag, **_noted(terms)}
        await self._ask(self._blobs.write, key, file, notes)

    async def get(self, key: str) -> Stored | None:
        info = await self.stat(key)
        content = None if info is None else await self._ask(self._blobs.read, key)
        return None if info is None or content is None else Stored(key, content, info.content_type)

    async def stat(self, key: str) -> FileInfo | None:
        _check(key)
        blob = await self._ask(self._blobs.stat, key)
        if blob is None or self._expired(blob):
            return None
        notes = blob.notes
        # without notes: written before there were any
        content_type = notes.get("type") or _type(key)
        return FileInfo(key, blob.size, content_type, notes.get("etag", f"{blob.size:x}"), _terms(notes))

    async def open(self, key: str, start: int, size: int) -> AsyncIterator[bytes]:
        _check(key)
        end = start + size
        while start < end:
            piece = await self._ask(self._blobs.read, key, start, min(_PIECE, end - start))
            if not piece:
                return
            yield piece
            start += len(piece)

    async def delete(self, key: str) -> None:
        _check(key)
        await self._ask(self._blobs.delete, key)

    async def stage(self, upload: str, number: int, file: BinaryIO, etag: str) -> None:
        await self._ask(self._blobs.write, _part(upload, number), file, {"etag": etag})

    async def staged(self, upload: str) -> list[Part]:
        return await self._ask(self._staged, upload)

    async def join(self, upload: str, parts: list[Part], file: BinaryIO) -> bool:
        for part in parts:
            done = 0
            while done < part.size:
                piece = await self._ask(self._blobs.read, _part(upload, part.number), done, _PIECE)
                if not piece:
                    return False
                await self._ask(file.write, piece)
                done += len(piece)
        return True

    async def unstage(self, upload: str) -> None:
        for part in await self.staged(upload):
            await self._ask(self._blobs.delete, _part(upload, part.number))

    async def sweep(self, limit: int = 10_000) -> int:
        return await self._ask(self._sweep, limit)

    async def _ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `call` returns: the one border at which whatever keeps the bytes from us becomes StoreUnavailable."""
        try:
            return await self._threads.run(call, *args, **kwargs)
        except OSError as error:
            raise StoreUnavailable("files") from error

    def _probe(self) -> None:
        self._blobs.write(PROBE, BytesIO(bytes(_PROBE_SIZE)), {})
        self._blobs.delete(PROBE)

    def _staged(self, upload: str) -> list[Part]:
        found = []
        for path in self._blobs.list(_folder(upload)):
            blob = self._blobs.stat(path)
            if blob is not None:
                found.append(Part(int(path.rpartition("/")[2]), blob.size, blob.notes["etag"]))
        return found

    def _sweep(self, limit: int) -> int:
        removed = 0
        for mark in self._older(_EXPIRING, self._clock(), limit):
            key = mark.removeprefix(_EXPIRING).partition("/")[2]
            blob = self._blobs.stat(key)
            if blob is not None and self._expired(blob):  # it may have been written again, with a later end
                self._blobs.delete(key)
            self._blobs.delete(mark)
            removed += 1
        for path in self._older(_STAGING, self._clock() - UNFINISHED_S, limit):
            self._blobs.delete(path)
            removed += 1
        return removed

    def _older(self, folder: str, until: float, limit: int) -> list[str]:
        """Paths of the form `<folder><moment>/…` whose moment is not after `until`, oldest first."""
        latest = f"{folder}{moment(until)}"
        paths = takewhile(lambda path: path[: len(latest)] <= latest, self._blobs.list(folder))
        return [path for path, _ in zip(paths, range(limit), strict=False)]

    def _expired(self, blob: Blob) -> bool:
        return "expires" in blob.notes and float(blob.notes["expires"]) <= self._clock()


def _check(key: str) -> None:
    if not is_key(key):
        raise ValueError(f"not a key of the files store: {key!r}")


def _type(key: str) -> str:
    return INPUT_TYPES.get(key.rpartition(".")[2], UNKNOWN_TYPE)


def _folder(upload: str) -> str:
    if _UPLOAD.fullmatch(upload) is None:
        raise ValueError(f"not an upload of the files store: {upload!r}")
    return f"{_STAGING}{upload}/"


def _part(upload: str, number: int) -> str:
    return f"{_folder(upload)}{number:05d}"


def _noted(terms: FileTerms) -> dict[str, str]:
    notes = {}
    if terms.owner:
        notes["owner"] = terms.owner
    if terms.acl is not None:
        notes["acl"] = json.dumps(terms.acl.model_dump(), separators=(",", ":"))
    if terms.expires_at is not None:
        notes["expires"] = repr(float(terms.expires_at))
    if terms.file_name:
        notes["name"] = quote(terms.file_name)
    return notes


def _terms(notes: Mapping[str, str]) -> FileTerms:
    return FileTerms(
        owner=notes.get("owner", ""),
        acl=Acl.model_validate_json(notes["acl"]) if "acl" in notes else None,
        expires_at=float(notes["expires"]) if "expires" in notes else None,
        file_name=unquote(notes["name"]) if "name" in notes else None,
    )
