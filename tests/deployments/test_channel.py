"""Events from the engine's thread to a replica's loop."""

import asyncio
import threading

import numpy as np
import pytest

from deployments.channel import Channel
from pipelines.events import Drawn, Note, Preview, Step

DRAWN = Drawn(np.zeros((1, 8, 8, 3), np.uint8), {})


async def test_a_slow_reader_gets_the_newest_progress_and_the_end() -> None:
    channel = Channel(asyncio.get_running_loop())
    for step in range(1000):
        channel.put(Step(step, 1000))
    channel.put(DRAWN)
    assert [events async for events in channel.events()] == [[Step(999, 1000), DRAWN]]


async def test_every_note_is_read_once_and_before_what_comes_with_it() -> None:
    channel = Channel(asyncio.get_running_loop())
    for event in (Note("one"), Step(0, 2), Note("two")):
        channel.put(event)
    events = channel.events()
    assert await anext(events) == [Note("one"), Note("two"), Step(0, 2)]
    channel.put(Note("three"))
    channel.put(DRAWN)
    assert [told async for told in events] == [[Note("three"), DRAWN]]


async def test_the_newest_preview_comes_after_its_progress() -> None:
    channel = Channel(asyncio.get_running_loop())
    older, newer = (Preview(step, 9, np.zeros((1, 1, 1, 3), np.uint8)) for step in (1, 2))
    for event in (older, Step(1, 9), newer, Step(2, 9)):
        channel.put(event)
    events = channel.events()
    assert await anext(events) == [Step(2, 9), newer]
    channel.put(older)
    channel.put(DRAWN)
    assert [told async for told in events] == [[DRAWN]]


async def test_a_thread_is_heard_without_waiting_for_its_end() -> None:
    channel = Channel(asyncio.get_running_loop())
    read = threading.Event()

    def engine() -> None:
        channel.put(Step(0, 2))
        assert read.wait(10)
        channel.put(DRAWN)

    thread = threading.Thread(target=engine)
    thread.start()
    events = channel.events()
    assert await anext(events) == [Step(0, 2)]
    read.set()
    assert await anext(events) == [DRAWN]
    thread.join()
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_an_exception_is_raised_at_the_reader() -> None:
    channel = Channel(asyncio.get_running_loop())
    channel.put(KeyError("broken"))
    with pytest.raises(KeyError, match="broken"):
        await anext(channel.events())


def test_nobody_minds_an_event_for_a_closed_loop() -> None:
    loop = asyncio.new_event_loop()
    channel = Channel(loop)
    loop.close()
    channel.put(DRAWN)
