"""The files store as its callers see it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from gateway.policy import Acl

FILES = "/files/"  # the path under which the gateway serves them, before the key


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of the store. content_type is what was sniffed when it was put, never a client's word."""

    key: str
    content: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class FileTerms:
    """Under what a file is kept.

    owner: the id of the key whose it is; empty where the service is open. acl: None where settings decide.
    expires_at: Unix seconds after which there is no such file; None keeps it. file_name: a client's, sanitised.
    """

    owner: str = ""
    acl: Acl | None = None
    expires_at: float | None = None
    file_name: str | None = None


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What is known of a file without reading it. size in bytes. etag: names its content, without quotes."""

    key: str
    size: int
    content_type: str
    etag: str
    terms: FileTerms


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an unfinished upload. number: from 1. size in bytes."""

    number: int
    size: int
    etag: str


class Files(Protocol):
    """Media by key.

    Keys are made by us: `inputs/<request id>/<name>` is what came inside a request and is never served,
    `outputs/<request id>/<name>` what it produced, `uploads/<id>/<name>` what a client uploaded, and
    `weights/<sha256>.safetensors` what nodes hand to each other, which is never served either. Every method raises
    ValueError for a key that is not of this form. A file that has expired is as if it were not there.

    Every method raises `gateway.errors.StoreUnavailable` within seconds when the bytes cannot be reached or written:
    the bucket is gone, hangs or refuses, the disk is full. What a method wrote is then there as a whole or not at all.
    """

    async def check(self) -> None:
        """Write something and delete it again, so that StoreUnavailable says whether the store is there."""

    async def put(self, key: str, content: bytes, content_type: str, terms: FileTerms = FileTerms()) -> None:
        """Store durably and at once, as a whole. A second attempt at a request replaces its files."""

    async def save(self, key: str, file: BinaryIO, content_type: str, etag: str, terms: FileTerms) -> None:
        """`put` for what is too large for memory: all of `file`, from its beginning."""

    async def get(self, key: str) -> Stored | None:
        """The file in memory, or None when there is none."""

    async def stat(self, key: str) -> FileInfo | None: ...

    def open(self, key: str, start: int, size: int) -> AsyncIterator[bytes]:
        """`size` bytes of a file from `start` on, piece by piece; fewer when the file goes meanwhile."""

    async def delete(self, key: str) -> None:
        """Remove; a missing key is not an error."""

    async def stage(self, upload: str, number: int, file: BinaryIO, etag: str) -> None:
        """Keep a part of an upload durably until it is joined; the same number again replaces it.

        upload: `<Unix seconds of its beginning>/<id>`, of our making.
        """

    async def staged(self, upload: str) -> list[Part]:
        """The parts that are there, by number."""

    async def join(self, upload: str, parts: list[Part], file: BinaryIO) -> bool:
        """Write the parts one after the other to `file`; False when one of them has gone."""

    async def unstage(self, upload: str) -> None: ...

    async def sweep(self, limit: int = 10_000) -> int:
        """Remove up to `limit` expired files, and as many parts of uploads that nobody finished in a day.

        Returns how many it removed: fewer than `limit` means that nothing is left to do now. Several may sweep at once.
        """
