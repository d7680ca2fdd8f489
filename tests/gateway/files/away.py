"""A place for bytes that can be taken away and given back, in this process or from another one."""

import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from gateway.files.backends import FolderBlobs
from gateway.files.blobs import Blob


class AwayBlobs:
    """A folder that raises `code` of errno while a file named `away` is beside it. Each refusal adds a byte to it."""

    def __init__(self, folder: Path, code: int = errno.ENOSPC) -> None:
        self._blobs, self._code, self._flag = FolderBlobs(folder / "files"), code, folder / "away"

    @property
    def refusals(self) -> int:
        return self._flag.stat().st_size

    def take_away(self) -> None:
        self._flag.touch()

    def give_back(self) -> None:
        self._flag.unlink()

    def write(self, path: str, file: BinaryIO, notes: Mapping[str, str]) -> None:
        self._check()
        self._blobs.write(path, file, notes)

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes | None:
        self._check()
        return self._blobs.read(path, start, size)

    def stat(self, path: str) -> Blob | None:
        self._check()
        return self._blobs.stat(path)

    def delete(self, path: str) -> None:
        self._check()
        self._blobs.delete(path)

    def list(self, folder: str) -> Iterator[str]:
        self._check()
        return self._blobs.list(folder)

    def _check(self) -> None:
        if self._flag.exists():
            with self._flag.open("ab") as flag:
                flag.write(b".")
            raise OSError(self._code, os.strerror(self._code))
