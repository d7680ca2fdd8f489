"""Reading the pictures of a spec, from the files store or from an address, as pixels."""

import asyncio

from gateway.errors import ModelError
from gateway.fetching import Fetcher
from gateway.fields import location
from gateway.files.base import Files
from gateway.media import Pixels, decode_image

STORED = "stored:"


class PictureReader:
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
