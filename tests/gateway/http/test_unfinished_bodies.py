"""More unfinished bodies than Serve lets a replica have calls leave health, and whoever sends all of his, working."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from urllib.parse import urlsplit

import httpx2
import pytest

from gateway.app import Parts
from gateway.keys.base import KeyLimits
from gateway.keys.base import Scope as KeyScope
from gateway.keys.sql import SqlKeys
from gateway.settings import GatewaySettings
from tests.gateway.fakes import FAST, INPUT, until
from tests.gateway.http.conftest import serving
from tests.gateway.http.sockets import Connection, connected, head, target
from tests.gateway.http.storing import Uploader

MANY = 520
PLACES = 225  # of 500 calls
GRACE_S, SOON_S = 60.0, 20.0  # that of those that stall, and by when others are served


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"body_grace_s": GRACE_S})


class Stalled:
    """Clients that sent the beginning of a call, and nothing since. codes: of those that were answered."""

    def __init__(self, stack: AsyncExitStack, server: str) -> None:
        self._stack, self._server = stack, server
        self.codes: list[int] = []

    async def begin(self, start: bytes, count: int = MANY) -> None:
        connections = [await self._stack.enter_async_context(connected(self._server)) for _ in range(count)]
        for connection in connections:
            await connection.send(start)
        for connection in connections:
            self._stack.callback(asyncio.create_task(self._listen(connection)).cancel)

    async def _listen(self, connection: Connection) -> None:
        self.codes.append(await connection.status())

    async def settled(self) -> None:
        """Wait until only as many are left as there are places."""

        async def true() -> bool:
            return len(self.codes) >= MANY - PLACES

        await until(true)


async def is_served(server: str, headers: dict[str, str]) -> None:
    """That one who sends his body, at once or in pieces, is served soon, and health is told."""

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b'{"prompt": ', b'"a red cube", ', b'"seed": 7}'):
            yield piece
            await asyncio.sleep(0.1)

    bodies: Sequence[dict[str, object]] = ({"json": INPUT}, {"content": pieces()})
    async with httpx2.AsyncClient(base_url=server, timeout=SOON_S) as client:
        assert (await client.get("/health")).status_code == 200
        async with asyncio.timeout(SOON_S):
            while (await client.get("/ready")).status_code == 503:  # in the very moment of a burst
                pass
        for body in bodies:
            answer = await client.post(f"/queue/{FAST}", headers=headers, **body)  # type: ignore[arg-type]
            assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("body", [b"", b"{"], ids=["nothing", "a byte"])
async def test_on_an_open_service(server: str, body: bytes) -> None:
    async with AsyncExitStack() as stack:
        stalled = Stalled(stack, server)
        await stalled.begin(head("POST", f"/queue/{FAST}") + body)
        await is_served(server, {})
        await stalled.settled()
        assert set(stalled.codes) <= {408, 503}  # those of one burst are more than may have begun
        assert 408 in stalled.codes
        await is_served(server, {})


async def test_chunked_ones(server: str) -> None:
    async with AsyncExitStack() as stack:
        stalled = Stalled(stack, server)
        await stalled.begin(head("POST", f"/run/{FAST}", "transfer-encoding: chunked") + b"1\r\n{\r\n")
        await is_served(server, {})


async def test_uploads_to_one_signed_address(server: str) -> None:
    async with AsyncExitStack() as stack:
        stalled = Stalled(stack, server)
        await stalled.begin(head(*await target(server, "signed")) + b"x")
        await is_served(server, {})


@pytest.fixture
async def keys(parts: Parts) -> AsyncIterator[SqlKeys]:
    opened = await SqlKeys.open(parts.settings.ledger_address)
    yield opened
    await opened.close()


@pytest.fixture
async def locked(parts: Parts, keys: SqlKeys) -> AsyncIterator[str]:
    """The address of a server that requires keys."""
    settings = parts.settings.model_copy(update={"keys": "required", "allowed_hosts": ()})
    async with serving(replace(parts, settings=settings, keys=keys)) as address:
        yield address


async def key_of(keys: SqlKeys) -> str:
    """The header of a new key."""
    issued = await keys.create("app", (KeyScope.RUN, KeyScope.STORAGE), KeyLimits(), None)
    return f"authorization: Key {issued.credentials}"


async def test_those_of_one_key_cost_another_key_nothing(locked: str, keys: SqlKeys) -> None:
    one, other = await key_of(keys), await key_of(keys)
    async with AsyncExitStack() as stack:
        slow = await stack.enter_async_context(connected(locked))
        await slow.send(head("POST", f"/queue/{FAST}", other, "content-length: 1000") + b"{")
        stalled = Stalled(stack, locked)
        await stalled.begin(head("POST", f"/queue/{FAST}", one, "content-length: 1000") + b"{")
        await stalled.settled()
        await is_served(locked, {"authorization": other.partition(": ")[2]})
        await slow.send(b" " * 998 + b"}")  # which has kept its place
        assert await slow.status() == 422


async def test_uploads_by_signed_addresses_are_of_the_key_that_asked_for_them(locked: str, keys: SqlKeys) -> None:
    key = {"authorization": (await key_of(keys)).partition(": ")[2]}
    async with httpx2.AsyncClient(base_url=locked, headers=key) as client, AsyncExitStack() as stack:
        url = urlsplit((await Uploader(client).begun())["upload_url"])
        stalled = Stalled(stack, locked)
        await stalled.begin(head("PUT", f"{url.path}?{url.query}") + b"x", PLACES // 2 + 20)

        async def ended() -> bool:
            return len(stalled.codes) == 20

        await until(ended)
