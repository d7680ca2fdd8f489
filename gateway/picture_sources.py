"""Reading the pictures of a spec as pixels: from the files store where an address is ours, else from the network."""

import asyncio
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from gateway.errors import ModelError, location
from gateway.files.base import FILES, FileInfo, Files
from gateway.files.store import is_key
from gateway.images.codec import Pixels, decode_image
from gateway.images.fetch import Fetcher, too_large
from gateway.keys.base import Caller
from gateway.policy import FilesAccess, decide

_SERVED = ("outputs/", "uploads/")
_PORTS: Mapping[str, int] = {"http": 80, "https": 443}


class LocalFileResolver:
    """The files of the store that one caller may name.

    origins: `host` or `host:port` under which this service answers; a host alone stands for all its ports.
    """

    def __init__(self, files: Files, caller: Caller, access: FilesAccess, origins: Collection[str]) -> None:
        self._files, self._caller, self._access = files, caller, access
        self._origins = frozenset(_plain(origin) for origin in origins)

    def key_of(self, url: str) -> str | None:
        """The key of the file behind an address of ours; None for any other address."""
        try:
            parts = urlsplit(url)
            host, port = _host(parts.hostname or ""), parts.port or _PORTS.get(parts.scheme.lower())
        except ValueError:
            return None
        if port is None or parts.username is not None or not {host, f"{host}:{port}"} & self._origins:
            return None
        key = parts.path.removeprefix("/cdn").removeprefix(FILES)
        served = parts.path in (FILES + key, f"/cdn{FILES}{key}") and key.startswith(_SERVED)
        return key if served and is_key(key) else None

    async def stat(self, key: str, field: str) -> FileInfo:
        """What is known of the file. Raises the `file_download_error` of `read`."""
        info = await self._files.stat(key)
        if info is None or decide(info.terms.owner, info.terms.acl, self._caller, self._access) != "allow":
            raise _missing(field)
        return info

    async def read(self, key: str, max_bytes: int, field: str) -> bytes:
        """The content. field: where in the client's input it is named, dotted.

        Raises ModelError `file_too_large`, or `file_download_error`: the same for a file that is not there and one that
        the caller may not read.
        """
        info = await self.stat(key, field)
        if info.size > max_bytes:
            raise too_large(max_bytes, field)
        stored = await self._files.get(key)
        if stored is None:
            raise _missing(field)
        return stored.content


def _plain(origin: str) -> str:
    parts = urlsplit(f"//{origin}")
    host = _host(parts.hostname or "")
    return f"{host}:{parts.port}" if parts.port else host


def _host(host: str) -> str:
    """A host as it is compared: all names of this machine are one."""
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return "localhost" if loopback else host.lower()


def _missing(field: str) -> ModelError:
    msg = "The file could not be downloaded: its server answered 404."
    return ModelError("file_download_error", msg, location(field))


STORED = "stored:"


class ImageLoader:
    """Reads and decodes the pictures that a spec names.

    max_bytes: of a fetched file. max_pixels: of a picture, before it is decoded.
    """

    def __init__(self, files: Files, fetcher: Fetcher, max_bytes: int, max_pixels: int) -> None:
        self._files, self._fetcher = files, fetcher
        self._max_bytes, self._max_pixels = max_bytes, max_pixels

    async def fetch(self, source: str, field: str) -> bytes:
        """The file at `source`: `stored:<key>` or an http(s) address.

        field: where in the client's input it was named, dotted. Raises ModelError for what cannot be had.
        """
        if not source.startswith(STORED):
            return await self._fetcher.fetch(source, self._max_bytes, field)
        stored = await self._files.get(source.removeprefix(STORED))
        if stored is None:
            raise ModelError("file_download_error", "The uploaded picture is no longer stored.", location(field))
        return stored.content

    async def decode(self, content: bytes, field: str) -> Pixels:
        """The picture in a file as (height, width, 3) uint8 RGB, upright. Raises ModelError for what cannot be read."""
        return await asyncio.to_thread(decode_image, content, self._max_pixels, field)
