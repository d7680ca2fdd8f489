"""The files store in a folder of this machine."""

import asyncio
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gateway.files.base import Stored
from gateway.media import CONTENT_TYPES

_KEY = re.compile(
    r"(?:inputs|outputs)/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/[A-Za-z0-9_-]+\.(?P<suffix>[a-z0-9]+)", re.ASCII
)
_TYPES: Mapping[str, str] = {str(suffix): content_type for suffix, content_type in CONTENT_TYPES.items()}


class LocalFiles:
    """`gateway.files.base.Files` under `folder`. Several processes may share it.

    The suffix of a key is the file's type; a key of another form, or a suffix that is no image's, is a ValueError.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, key: str, content: bytes, content_type: str) -> None:
        """Store durably. Raises ValueError when the key's suffix does not mean `content_type`.

        A second attempt at a request writes its files again under the same keys; readers see one or the other whole.
        """
        if self._type(key) != content_type:
            raise ValueError(f"the suffix of {key!r} does not mean {content_type!r}")
        await asyncio.to_thread(_write, self._folder / key, content)

    async def get(self, key: str) -> Stored | None:
        content_type = self._type(key)
        try:
            content = await asyncio.to_thread((self._folder / key).read_bytes)
        except FileNotFoundError:
            return None
        return Stored(key, content, content_type)

    async def delete(self, key: str) -> None:
        self._type(key)
        await asyncio.to_thread((self._folder / key).unlink, missing_ok=True)

    def _type(self, key: str) -> str:
        matched = _KEY.fullmatch(key)
        if matched is None or matched["suffix"] not in _TYPES:
            raise ValueError(f"not a key of the files store: {key!r}")
        return _TYPES[matched["suffix"]]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A leading dot is outside the form of keys, so that an unfinished file is never served.
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with aside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        with suppress(FileNotFoundError):
            aside.unlink()
        raise
    # The new name is durable once its folder is.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
