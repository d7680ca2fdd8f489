"""The files store's threads: a call that finds none is told so, and never done behind its caller's back."""

import asyncio
import pickle
import threading
from collections.abc import Iterator

import pytest

from gateway.files.blobs import Threads


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


async def test_a_call_answers_and_raises_as_it_is() -> None:
    threads = pickle.loads(pickle.dumps(Threads()))  # noqa: S301 (our own)
    assert await threads.run(int, "7") == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await threads.run(int, "x")


async def test_a_call_that_finds_every_thread_busy_is_withdrawn(gate: threading.Event) -> None:
    threads, done = Threads(at_once=1, room_s=0.05), []
    hanging = asyncio.create_task(threads.run(gate.wait))
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError, match="busy"):
        await threads.run(done.append, 1)
    gate.set()
    assert await hanging
    await threads.run(done.append, 2)
    assert done == [2]


async def test_a_long_call_has_all_its_time(gate: threading.Event) -> None:
    threads = Threads(at_once=1, room_s=0.01)
    asyncio.get_running_loop().call_later(0.1, gate.set)
    assert await threads.run(gate.wait)


async def test_what_is_cancelled_before_it_began_is_never_done(gate: threading.Event) -> None:
    threads, done = Threads(at_once=1), []
    hanging = asyncio.create_task(threads.run(gate.wait))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(threads.run(done.append, 1))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    await hanging
    await threads.run(done.append, 2)
    assert done == [2]
