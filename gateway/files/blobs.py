"""What a place for bytes must do to hold the files store."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class Blob:
    """size in bytes. notes: what was written with it; empty for what another program put there."""

    size: int
    notes: Mapping[str, str]


class Blobs(Protocol):
    """Bytes by path (`a/b/c`, of our making), with notes of ASCII text. Methods block; any thread may call them.

    Each raises OSError, within seconds, when the place cannot be reached, read or written.
    """

    def write(self, path: str, file: BinaryIO, notes: Mapping[str, str]) -> None:
        """All of `file`, from its beginning, durably; a reader sees the old whole or the new one. May close `file`."""

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes | None:
        """`size` bytes from `start`, fewer at the end, all without a size; None when there is no such path."""

    def stat(self, path: str) -> Blob | None: ...

    def delete(self, path: str) -> None:
        """A missing path is not an error."""

    def list(self, folder: str) -> Iterator[str]:
        """The paths in a folder (`a/b/`) and those in it, in order. What comes and goes meanwhile may be missed."""
