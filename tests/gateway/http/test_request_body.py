"""A body that does not arrive ends in time, and whoever leaves while it arrives is no fault of ours."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, aclosing

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from gateway.errors import PlatformError
from gateway.http.request_body import PROMPT_S, Bodies, TooSlow
from gateway.http.responses import Unhandled
from gateway.settings import GatewaySettings
from tests.gateway.fakes import FAST, INPUT, until
from tests.gateway.http.sockets import READING, connected, head, target

GRACE_S = 1.5
RATE = 2000.0  # bytes a second
MAX_BYTES = 100_000
CHUNK = b"x" * 1000


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    times = {"body_grace_s": GRACE_S, "body_least_bytes_per_s": RATE, "body_timeout_s": 60.0}
    return settings.model_copy(update=times)


@pytest.fixture
def bodies(settings: GatewaySettings) -> Bodies:
    """Of four places, two of them for a key. Nobody is slow by himself."""
    return Bodies(settings.model_copy(update={"body_grace_s": 60.0, "body_timeout_s": 60.0}), lambda: 4)


class Sender:
    """A client that sends the pieces of a body one by one, and what the service has of them."""

    def __init__(self, bodies: Bodies, key: str = "") -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        request = Request({"type": "http", "headers": []}, self._messages.get)
        self.got = 0
        self.task = asyncio.create_task(self._read(bodies, request, key))

    def send(self, chunk: bytes = CHUNK, more: bool = True) -> None:
        self._messages.put_nowait({"type": "http.request", "body": chunk, "more_body": more})

    async def arrived(self, chunks: int) -> None:
        async def true() -> bool:
            return self.got >= chunks

        await until(true)

    async def _read(self, bodies: Bodies, request: Request, key: str) -> None:
        async with aclosing(bodies.chunks(request, MAX_BYTES, key)) as chunks:
            async for _ in chunks:
                self.got += 1


@pytest.fixture
async def senders(bodies: Bodies) -> AsyncIterator["Senders"]:
    async with AsyncExitStack() as stack:
        yield Senders(bodies, stack)


class Senders:
    def __init__(self, bodies: Bodies, stack: AsyncExitStack) -> None:
        self._bodies, self._stack = bodies, stack

    async def begin(self, key: str = "", chunk: bytes = b"x") -> Sender:
        """A sender whose first piece has come."""
        sender = Sender(self._bodies, key)
        self._stack.callback(sender.task.cancel)
        sender.send(chunk)
        await sender.arrived(1)
        return sender


async def ended(sender: Sender) -> bool:
    return sender.task.done() and isinstance(sender.task.exception(), TooSlow)


def going_on(senders: Iterable[Sender]) -> bool:
    return not any(sender.task.done() for sender in senders)


async def last(seconds: float) -> AsyncIterator[None]:
    """Ticks until `seconds` have passed."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        yield
        await asyncio.sleep(0.02)


async def test_silence_is_answered_and_the_connection_closed(server: str) -> None:
    async def answer(route: str, body: bytes) -> bytes:
        method, path = await target(server, route)
        async with connected(server) as connection:
            await connection.send(head(method, path) + body)
            return await connection.answered()

    for answered in await asyncio.gather(*(answer(route, body) for route in READING for body in (b"", b"{"))):
        lines, _, content = answered.partition(b"\r\n\r\n")
        assert lines.startswith(b"HTTP/1.1 408 ")
        assert b"\r\nconnection: close" in lines
        assert json.loads(content)["error_type"] == "bad_request"
        assert isinstance(json.loads(content)["detail"], str)


@pytest.mark.parametrize("route", ["submit", "signed"])
async def test_a_chunked_body_of_few_chunks_ends_too(server: str, route: str) -> None:
    method, path = await target(server, route)
    async with connected(server) as connection:
        await connection.send(head(method, path, "transfer-encoding: chunked") + b"1\r\n{\r\n")
        assert (await connection.answered()).startswith(b"HTTP/1.1 408 ")


async def test_whoever_is_never_silent_but_too_slow_is_answered_as_well(server: str) -> None:
    async with connected(server) as connection:  # which waits for less than the deadline
        await connection.send(head("POST", f"/queue/{FAST}"))
        answer = asyncio.create_task(connection.status())
        while not answer.done():
            await connection.send(b"x")
            await asyncio.sleep(0.02)
        assert answer.result() == 408


async def test_a_slow_body_that_keeps_the_rate_is_taken(server: str) -> None:
    body = json.dumps(INPUT).encode().ljust(5 * len(CHUNK))
    async with connected(server) as connection:
        await connection.send(head("POST", f"/queue/{FAST}", f"content-length: {len(body)}"))
        for begin in range(0, len(body), 200):  # in 25 pieces, and longer than the grace
            await connection.send(body[begin : begin + 200])
            await asyncio.sleep(0.07)
        assert await connection.status() == 200


async def test_what_came_fast_buys_no_silence(settings: GatewaySettings) -> None:
    sender = Sender(Bodies(settings, lambda: 4))
    sender.send(b"x" * MAX_BYTES)  # 50 s of the rate
    await sender.arrived(1)
    with pytest.raises(TooSlow):
        await asyncio.wait_for(sender.task, 30)


async def test_even_a_fast_body_has_a_deadline(settings: GatewaySettings) -> None:
    sender = Sender(Bodies(settings.model_copy(update={"body_timeout_s": 1.5}), lambda: 4))
    async for _ in last(5.0):
        if sender.task.done():
            break
        sender.send(b"x" * 100)  # 5000 bytes a second
    with pytest.raises(TooSlow):
        sender.task.result()


async def test_what_is_done_with_a_piece_is_not_the_senders_time(settings: GatewaySettings) -> None:
    messages = [{"type": "http.request", "body": b"x", "more_body": more} for more in (True, False)]

    async def receive() -> Message:
        await asyncio.sleep(0)  # or no deadline, not even one that is over, would be heard of
        return messages.pop(0)

    request = Request({"type": "http", "headers": []}, receive)
    async with aclosing(Bodies(settings, lambda: 4).chunks(request, MAX_BYTES)) as chunks:
        async for _ in chunks:
            await asyncio.sleep(1.1 * GRACE_S)
    assert not messages


async def test_a_newcomer_gets_the_place_of_whoever_is_silent(senders: Senders) -> None:
    silent = [await senders.begin() for _ in range(4)]
    newcomer = await senders.begin()
    await until(lambda: ended(silent[0]))
    assert going_on([*silent[1:], newcomer])
    newcomer.send(more=False)
    await newcomer.task


async def test_ending_many_is_one_line(senders: Senders, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fooocus")
    for _ in range(10):
        await senders.begin()
    assert [record.levelname for record in caplog.records if "slowest" in record.getMessage()] == ["INFO"]


async def test_a_trickle_is_no_better_than_silence(senders: Senders, settings: GatewaySettings) -> None:
    trickling = [await senders.begin() for _ in range(3)]
    fast = await senders.begin()
    async for _ in last(0.3):
        fast.send()
        for sender in trickling:
            sender.send(b"x")
    newcomers = [await senders.begin() for _ in range(3)]
    for sender in trickling:
        await until(lambda sender=sender: ended(sender))  # type: ignore[misc]
    assert going_on([fast, *newcomers])


async def test_bytes_of_old_keep_no_place(senders: Senders) -> None:
    paid = [await senders.begin(chunk=b"x" * 20_000) for _ in range(4)]  # 10 s of the rate each
    honest = await senders.begin()
    others = [await senders.begin() for _ in range(3)]
    for sender in paid:
        await until(lambda sender=sender: ended(sender))  # type: ignore[misc]
    assert going_on([honest, *others])


async def test_a_key_has_half_of_the_places(senders: Senders) -> None:
    first, second, third = [await senders.begin("a") for _ in range(3)]
    await until(lambda: ended(first))
    assert going_on([second, third])


async def test_no_key_costs_another_one_its_place(senders: Senders) -> None:
    other = await senders.begin("b")  # silent for longest
    many = [await senders.begin("a") for _ in range(2)]
    third = await senders.begin("c")
    await senders.begin("d")
    await until(lambda: ended(many[0]))
    assert going_on([other, many[1], third])


async def test_a_body_that_is_whole_at_once_costs_nobody_a_place(senders: Senders, bodies: Bodies) -> None:
    silent = [await senders.begin() for _ in range(4)]
    for _ in range(5):
        prompt = Sender(bodies)
        prompt.send(more=False)
        await prompt.task
    assert going_on(silent)


async def test_a_head_alone_takes_a_place_soon(senders: Senders, bodies: Bodies) -> None:
    silent = [Sender(bodies) for _ in range(4)]
    await asyncio.sleep(2 * PROMPT_S)
    newcomer = await senders.begin()
    await until(lambda: ended(silent[0]))
    assert going_on([*silent[1:], newcomer])
    for sender in silent:
        sender.task.cancel()


async def test_few_may_have_just_begun(senders: Senders, bodies: Bodies) -> None:
    silent = [await senders.begin() for _ in range(4)]
    begun = [Sender(bodies) for _ in range(3)]
    await asyncio.sleep(PROMPT_S / 5)
    assert [await ended(sender) for sender in silent] == [True, False, False, False]
    for sender in begun:
        sender.task.cancel()


async def test_places_are_given_back(senders: Senders) -> None:
    for _ in range(3):
        done = [await senders.begin() for _ in range(4)]
        for sender in done:
            sender.send(more=False)
            await sender.task
    left = [await senders.begin() for _ in range(4)]
    for sender in left:
        sender.task.cancel()
    await asyncio.gather(*(sender.task for sender in left), return_exceptions=True)
    assert going_on([await senders.begin() for _ in range(4)])


async def test_a_client_that_leaves_is_no_fault(server: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for route in READING:
        method, path = await target(server, route)
        async with connected(server) as connection:
            await connection.send(head(method, path) + b"{")
            await asyncio.sleep(0.05)  # it arrives
    async with connected(server) as connection:  # answered when those before have been noticed
        await connection.send(head("GET", "/ready", "connection: close"))
        await connection.answered()
    assert not [record for record in caplog.records if record.levelno > logging.INFO or record.exc_info]


async def test_whoever_loses_the_client_for_us_is_told_that_it_left(settings: GatewaySettings) -> None:
    async def receive() -> Message:
        raise RuntimeError("the proxy is gone")

    request = Request({"type": "http", "headers": []}, receive)
    with pytest.raises(PlatformError, match="left") as raised:
        async with aclosing(Bodies(settings, lambda: 4).chunks(request, MAX_BYTES)) as chunks:
            await anext(chunks)
    assert raised.value.status == 499


async def test_a_route_that_reads_by_itself_answers_499_too(caplog: pytest.LogCaptureFixture) -> None:
    async def route(request: Request) -> Response:
        return Response(await request.body())

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    caplog.set_level(logging.INFO)
    app = Starlette(routes=[Route("/", route, methods=["POST"])], middleware=[Middleware(Unhandled)])
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b"", "root_path": ""}
    await app(scope, receive, send)
    assert sent[0]["status"] == 499
    assert json.loads(sent[1]["body"])["error_type"] == "client_disconnected"
    assert not [record for record in caplog.records if record.levelno > logging.INFO or record.exc_info]


async def test_bodies_nobody_reads_are_answered_at_once(server: str) -> None:
    for method, path in (
        ("POST", "/health"),
        ("GET", "/health"),
        ("GET", "/ready"),
        ("HEAD", "/health"),
        ("POST", "/nowhere"),
        ("POST", "/"),
        ("POST", "/queue/fal-ai/unknown"),
        ("PUT", "/queue/fal-ai/fooocus/requests/x/cancel"),
        ("PUT", "/cdn/upload/x?token=x"),
    ):
        async with connected(server) as connection:
            await connection.send(head(method, path) + b"{")
            assert await connection.status() in (200, 403, 404, 405), (method, path)


async def test_a_body_longer_than_it_said_harms_only_its_own_connection(server: str) -> None:
    body = json.dumps(INPUT).encode()
    async with connected(server) as connection:
        await connection.send(head("POST", f"/queue/{FAST}", f"content-length: {len(body)}") + body + b"more\r\n\r\n")
        assert await connection.status() in (200, 400)
    async with httpx2.AsyncClient(base_url=server) as client:
        assert (await client.post(f"/queue/{FAST}", json=INPUT)).status_code == 200
