"""Where the files store keeps its bytes: in a folder of this machine, or as settings say."""

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from gateway.files.base import Files
from gateway.files.blobs import Blob
from gateway.files.s3 import Bucket, S3Blobs
from gateway.files.store import FileStore
from gateway.settings import FixedSettings

_TRIES = 5


class FolderBlobs:
    """`gateway.files.blobs.Blobs` in `folder`, each a file beside a hidden one with its notes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, path: str, file: BinaryIO, notes: Mapping[str, str]) -> None:
        target = self._folder / path
        for attempt in range(_TRIES):
            target.parent.mkdir(parents=True, exist_ok=True)
            # Both are written before either is in its place, so that a disk that is full leaves what was there; then
            # the notes first, for the file is what says that there is anything.
            contents = [(_notes(target), BytesIO(json.dumps(dict(notes)).encode()))] if notes else []
            asides: list[tuple[Path, Path]] = []
            try:
                for place, content in [*contents, (target, file)]:
                    aside = place.with_name(f".{place.name}.{secrets.token_hex(8)}")
                    asides.append((aside, place))
                    _write(aside, content)
                for aside, place in asides:
                    os.replace(aside, place)
                _sync(target.parent)
                return
            except FileNotFoundError:  # the folder was empty, and went with its last file
                if attempt == _TRIES - 1:
                    raise
            finally:
                for aside, _ in asides:
                    with suppress(OSError):
                        aside.unlink(missing_ok=True)

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes | None:
        try:
            with (self._folder / path).open("rb") as file:
                file.seek(start)
                return file.read(-1 if size is None else size)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def stat(self, path: str) -> Blob | None:
        target = self._folder / path
        try:
            size = target.stat().st_size
            notes = json.loads(_notes(target).read_bytes()) if _notes(target).exists() else {}
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Blob(size, notes)

    def delete(self, path: str) -> None:
        target = self._folder / path
        target.unlink(missing_ok=True)
        _notes(target).unlink(missing_ok=True)
        folder = target.parent
        while folder != self._folder:
            try:
                folder.rmdir()
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.ENOENT, errno.EEXIST, errno.EBUSY):  # EBUSY: a mount
                    return
                raise
            folder = folder.parent

    def list(self, folder: str) -> Iterator[str]:
        try:
            with os.scandir(self._folder / folder) as found:
                entries = sorted((entry.name, entry.is_dir()) for entry in found)
        except FileNotFoundError:
            return
        for name, is_folder in entries:
            if is_folder:
                yield from self.list(f"{folder}{name}/")
            elif not name.startswith("."):
                yield folder + name


def _notes(target: Path) -> Path:
    # A leading dot is outside the form of paths, so that neither notes nor an unfinished file is ever taken for one.
    return target.with_name(f".{target.name}.json")


def _write(path: Path, content: BinaryIO) -> None:
    content.seek(0)
    with path.open("xb") as writing:
        shutil.copyfileobj(content, writing, 1024 * 1024)
        writing.flush()
        os.fsync(writing.fileno())


def _sync(path: Path) -> None:
    """Make the new names in a folder durable."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class LocalFiles(FileStore):
    """`gateway.files.base.Files` under `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(FolderBlobs(folder))


def files_of(settings: FixedSettings) -> Files:
    """A bucket where `files_url` names one, else a folder. It can be pickled, and has nothing to close."""
    if settings.files_url is None:
        return LocalFiles(settings.data_dir)
    return FileStore(S3Blobs(Bucket.at(settings.files_url, settings.files_endpoint_url, settings.files_region)))
