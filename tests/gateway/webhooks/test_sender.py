"""Deliveries reach their receivers, are told as they went, and no receiver keeps another from its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from socket import socket

import pytest

from gateway.images.ssrf import Resolve
from gateway.webhooks.sender import Sender, SendingLimits
from gateway.webhooks.signing import FixedRing, SigningKey, jwks
from tests.gateway.fakes import until
from tests.gateway.webhooks.fakes import MemoryOutbox, Owed, receiving
from tests.gateway.webhooks.verifying import verifies

RING = FixedRing((SigningKey(b"1" * 32),))
LOCAL = SendingLimits(tick_s=0.02, timeout_s=20, allow_loopback=True)


async def everywhere(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


@asynccontextmanager
async def sending(
    outbox: MemoryOutbox, limits: SendingLimits = LOCAL, resolve: Resolve = everywhere
) -> AsyncIterator[Sender[Owed]]:
    sender = Sender(outbox, RING, limits, "sender", resolve, Random(1))
    task = asyncio.create_task(sender.run())
    yield sender
    sender.stop()
    await task


def reached(outbox: MemoryOutbox, taken: int = 0, faults: int = 0) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return len(outbox.taken) >= taken and len(outbox.faults) >= faults

    return check


async def test_a_delivery_arrives_signed() -> None:
    got: list[tuple[str, dict[str, str], bytes]] = []

    async def receive(first: str, headers: dict[str, str], body: bytes) -> int:
        got.append((first, headers, body))
        return 200

    outbox = MemoryOutbox()
    async with receiving(receive) as url, sending(outbox):
        outbox.owe(Owed("r1", f"{url}/hook?a=b"))
        await until(reached(outbox, taken=1))
    ((first, headers, body),) = got
    assert first == "POST /hook?a=b HTTP/1.1"
    assert headers["content-type"] == "application/json"
    assert headers["x-fal-webhook-user-id"] == "owner"
    assert verifies(headers, body, jwks(RING))
    assert json.loads(body)["payload"] == {"images": [], "seed": 7}
    assert (outbox.taken, outbox.faults) == (["r1"], [])


async def test_who_is_woken_looks_at_once() -> None:
    async def receive(*_: object) -> int:
        return 200

    outbox, looked = MemoryOutbox(), asyncio.Event()
    claim = outbox.claim

    async def noted(owner: str, count: int, lease_s: float) -> Sequence[Owed]:
        looked.set()
        return await claim(owner, count, lease_s)

    outbox.claim = noted  # type: ignore[method-assign]
    limits = SendingLimits(tick_s=60, allow_loopback=True)
    async with receiving(receive) as url, sending(outbox, limits) as sender:
        await asyncio.wait_for(looked.wait(), 10)
        outbox.owe(Owed("r1", f"{url}/hook"))
        sender.wake()
        await until(reached(outbox, taken=1))


async def test_a_request_without_a_key_verifies_too() -> None:
    got: list[tuple[dict[str, str], bytes]] = []

    async def receive(_: str, headers: dict[str, str], body: bytes) -> int:
        got.append((headers, body))
        return 204

    outbox = MemoryOutbox()
    async with receiving(receive) as url, sending(outbox):
        outbox.owe(Owed("r1", url, key=""))
        await until(reached(outbox, taken=1))
    assert verifies(*got[0], jwks(RING))


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, "answered 500"), (404, "answered 404"), (302, "answered 302"), (0, "connection failed")],
)
async def test_what_is_not_taken_is_tried_again_later(status: int, error: str) -> None:
    async def receive(*_: object) -> int:
        return status

    outbox = MemoryOutbox()
    async with receiving(receive) as url, sending(outbox):
        outbox.owe(Owed("r1", f"{url}/secret-path", attempt=2))
        await until(reached(outbox, faults=1))
    ((request_id, text, delay_s),) = outbox.faults
    assert (request_id, error in text, "secret" in text) == ("r1", True, False)
    assert 15 <= delay_s <= 25  # after the third attempt
    assert outbox.taken == []


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://10.0.0.1/", "public"),
        ("http://inside.example/", "public"),
        ("http://2130706433/", "public"),
        ("file:///etc/passwd", "cannot be used"),
        ("http://1.1.1.1:25/", "cannot be used"),
        ("http://user:word@1.1.1.1/", "cannot be used"),
        ("nonsense", "cannot be used"),
    ],
)
async def test_the_guard_stands_before_every_receiver(url: str, error: str) -> None:
    async def inside(host: str, port: int) -> list[str]:
        return ["192.168.0.1"]

    outbox = MemoryOutbox()
    async with sending(outbox, SendingLimits(tick_s=0.02), inside):
        outbox.owe(Owed("r1", url))
        await until(reached(outbox, faults=1))
    assert error in outbox.faults[0][1]


async def test_a_receiver_that_nobody_is_at_is_a_fault_of_its_connection() -> None:
    outbox = MemoryOutbox()
    with socket() as taken:  # bound, and never listening
        taken.bind(("127.0.0.1", 0))
        async with sending(outbox, LOCAL):
            outbox.owe(Owed("r1", f"http://127.0.0.1:{taken.getsockname()[1]}/"))
            await until(reached(outbox, faults=1))
    assert "connection failed" in outbox.faults[0][1]


async def test_a_receiver_that_stalls_meets_the_timeout() -> None:
    leave = asyncio.Event()

    async def receive(*_: object) -> int:
        await leave.wait()
        return 200

    outbox = MemoryOutbox()
    async with (
        receiving(receive) as url,
        sending(outbox, SendingLimits(timeout_s=0.2, tick_s=0.02, allow_loopback=True)),
    ):
        outbox.owe(Owed("r1", url))
        await until(reached(outbox, faults=1))
        leave.set()
    assert "within 0.2 s" in outbox.faults[0][1]


async def test_a_slow_receiver_with_a_long_queue_holds_nobody_up() -> None:
    """Many more are owed to the slow one than the sender holds at once, and all before the quick one's."""
    leave = asyncio.Event()
    under_way = most = 0

    async def receive(first: str, *_: object) -> int:
        nonlocal under_way, most
        if "slow" in first:
            under_way += 1
            most = max(most, under_way)
            await leave.wait()
            under_way -= 1
        return 200

    outbox = MemoryOutbox()
    limits = SendingLimits(
        at_once=20, per_host=3, waiting=4, tick_s=0.02, again_s=0.02, timeout_s=20, allow_loopback=True
    )
    async with receiving(receive) as url:
        port = url.rpartition(":")[2]
        outbox.owe(*(Owed(f"s{i}", f"http://slow.example:{port}/slow") for i in range(200)))
        outbox.owe(*(Owed(f"q{i}", f"http://quick{i}.example:{port}/") for i in range(20)))
        async with sending(outbox, limits):
            await until(reached(outbox, taken=20))
            assert set(outbox.taken) == {f"q{i}" for i in range(20)}
            assert not outbox.faults  # nor did they wait for the slow one's timeout
            leave.set()
    assert most == 3
    assert outbox.postponed > 0


async def test_a_quick_receiver_with_a_long_queue_gets_all_of_it_without_a_lost_attempt() -> None:
    async def receive(*_: object) -> int:
        return 200

    outbox = MemoryOutbox()
    limits = SendingLimits(at_once=20, per_host=3, waiting=4, tick_s=0.02, again_s=0.02, allow_loopback=True)
    async with receiving(receive) as url, sending(outbox, limits):
        outbox.owe(*(Owed(f"r{i}", url) for i in range(60)))
        await until(reached(outbox, taken=60))
    assert sorted(outbox.taken) == sorted(f"r{i}" for i in range(60))
    assert (outbox.faults, outbox.due) == ([], [])


async def test_an_outbox_that_fails_is_asked_again() -> None:
    async def receive(*_: object) -> int:
        return 200

    outbox = MemoryOutbox(broken=3)
    async with receiving(receive) as url, sending(outbox):
        outbox.owe(Owed("r1", url))
        await until(reached(outbox, taken=1))


async def test_stopping_finishes_what_is_under_way_and_puts_the_rest_back() -> None:
    begun, leave = asyncio.Event(), asyncio.Event()

    async def receive(*_: object) -> int:
        begun.set()
        await leave.wait()
        return 200

    outbox = MemoryOutbox()
    limits = SendingLimits(per_host=1, tick_s=0.02, allow_loopback=True)
    async with receiving(receive) as url:
        async with sending(outbox, limits) as sender:
            outbox.owe(Owed("r1", url), Owed("r2", url))
            await begun.wait()
            sender.stop()
            leave.set()
        assert outbox.taken == ["r1"]
        assert [(owed.request_id, owed.attempt) for _, owed in outbox.due] == [("r2", 0)]
