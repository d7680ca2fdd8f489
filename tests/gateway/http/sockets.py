"""Calls as a client makes them that sends what it wants and stops when it wants."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx2

from tests.gateway.fakes import FAST
from tests.gateway.http.storing import Uploader, beside

# every route that reads a body
READING = ("submit", "run", "stream", "tokens", "initiate", "signed", "part", "complete", "cdn")


class Connection:
    """One TCP connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()

    async def answered(self) -> bytes:
        """All that the server sends until it closes the connection."""
        async with asyncio.timeout(10):
            return await self._reader.read()

    async def status(self) -> int:
        async with asyncio.timeout(10):
            return int((await self._reader.readline()).split()[1])


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Connection]:
    url = urlsplit(address)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


def head(method: str, path: str, *more: str) -> bytes:
    """more: headers. Without any, a body of 1000 bytes is announced."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", *(more or ("content-length: 1000",))]
    return "\r\n".join([*lines, "", ""]).encode()


async def target(server: str, route: str) -> tuple[str, str]:
    """Method and path of one of `READING`, with a grant where it takes one."""
    fixed = {
        "submit": f"/queue/{FAST}",
        "run": f"/run/{FAST}",
        "stream": f"/run/{FAST}/stream",
        "tokens": "/rest/tokens/",
        "initiate": "/rest/storage/upload/initiate",
        "cdn": "/cdn/files/upload",
    }
    if route in fixed:
        return "POST", fixed[route]
    async with httpx2.AsyncClient(base_url=server) as client:
        begun = await Uploader(client).begun("initiate" if route == "signed" else "initiate-multipart")
    rest = {"part": "1", "complete": "complete"}.get(route)
    url = urlsplit(begun["upload_url"] if rest is None else beside(begun["upload_url"], rest))
    return "POST" if route == "complete" else "PUT", f"{url.path}?{url.query}"
