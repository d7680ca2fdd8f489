"""Events of runs between the dispatcher and the gateways that listen: the newest, once, and only to who follows."""

import asyncio

from gateway.work import Preview, Step
from gateway.worker.events import POLLS_HELD, SILENT_S, Broadcast, Ended, Stopping

PREVIEW = Preview(2, 9, [b"x"], "image/jpeg", 1, 1)


async def test_a_slow_listener_gets_the_newest_of_each_kind_and_each_once() -> None:
    broadcast = Broadcast()
    broadcast.follow("g", 1, {"a": True})
    for event in (Step(1, 9), PREVIEW, Step(2, 9), Ended()):
        broadcast.publish("a", event)
    assert await broadcast.events("g") == [("a", Step(2, 9)), ("a", PREVIEW), ("a", Ended())]
    assert await broadcast.events("g", 0) == []


async def test_a_poll_is_answered_as_soon_as_something_happens() -> None:
    broadcast = Broadcast()
    broadcast.follow("g", 1, {"a": True})
    poll = asyncio.create_task(broadcast.events("g", 60))
    await asyncio.sleep(0)
    broadcast.publish("a", Step(1, 9))
    assert await asyncio.wait_for(poll, 30) == [("a", Step(1, 9))]


async def test_who_waits_for_the_end_alone_is_not_woken_by_steps() -> None:
    broadcast = Broadcast()
    broadcast.follow("g", 1, {"a": False})
    for event in (Step(1, 9), PREVIEW):
        broadcast.publish("a", event)
    assert await broadcast.events("g", 0) == []
    broadcast.publish("a", Ended())
    assert await broadcast.events("g", 0) == [("a", Ended())]


async def test_who_watches_hears_what_changed_and_a_stranger_that_anything_may_have() -> None:
    now = 0.0
    broadcast = Broadcast(lambda: now)
    broadcast.changed("before")
    assert await broadcast.watch("g", 0) is None
    assert await broadcast.watch("g", 0) == set()
    for name in ("a", "b", "a"):
        broadcast.changed(name)
    assert await broadcast.watch("g", 0) == {"a", "b"}
    now = SILENT_S + 1
    assert await broadcast.watch("g", 0) is None


async def test_who_watches_is_answered_as_soon_as_something_changes() -> None:
    broadcast = Broadcast()
    await broadcast.watch("g")
    watch = asyncio.create_task(broadcast.watch("g", 60))
    await asyncio.sleep(0)
    broadcast.changed("a")
    assert await asyncio.wait_for(watch, 30) == {"a"}


async def test_only_those_who_follow_a_run_hear_of_it() -> None:
    broadcast = Broadcast()
    broadcast.follow("g", 1, {"a": False})
    broadcast.follow("h", 1, {"b": False})
    broadcast.publish("a", Ended())
    assert await broadcast.events("h", 0) == []
    assert await broadcast.events("g", 0) == [("a", Ended())]


async def test_previews_are_wanted_as_long_as_somebody_wants_them() -> None:
    broadcast = Broadcast()
    broadcast.follow("g", 1, {"a": True, "b": False})
    assert (broadcast.wants_previews("a"), broadcast.wants_previews("b")) == (True, False)
    broadcast.follow("g", 2, {"b": False})
    assert not broadcast.wants_previews("a")


async def test_a_run_that_a_poll_does_not_name_is_forgotten_unless_a_newer_poll_names_it() -> None:
    broadcast = Broadcast()
    broadcast.follow("g", 2, {"a": False})
    broadcast.follow("g", 1, {})
    broadcast.publish("a", Ended())
    assert await broadcast.events("g", 0) == [("a", Ended())]
    broadcast.follow("g", 3, {})
    broadcast.publish("a", Ended())
    assert await broadcast.events("g", 0) == []


async def test_of_polls_at_once_the_first_is_answered_and_the_others_go_on() -> None:
    broadcast = Broadcast()
    broadcast.follow("g", 1, {"a": False, "b": False})
    first, second = (asyncio.create_task(broadcast.events("g", 60)) for _ in range(2))
    await asyncio.sleep(0)
    broadcast.publish("a", Ended())
    assert await asyncio.wait_for(first, 30) == [("a", Ended())]
    assert not second.done()
    broadcast.publish("b", Ended())
    assert await asyncio.wait_for(second, 30) == [("b", Ended())]


async def test_no_more_than_some_polls_of_a_listener_are_held() -> None:
    broadcast = Broadcast()
    broadcast.follow("g", 1, {"a": False})
    held = [asyncio.create_task(broadcast.events("g", 60)) for _ in range(POLLS_HELD)]
    await asyncio.sleep(0)
    assert await asyncio.wait_for(broadcast.events("g", 60), 30) == []
    assert not any(poll.done() for poll in held)
    for poll in held:
        poll.cancel()


async def test_who_polls_no_more_is_forgotten() -> None:
    now = 0.0
    broadcast = Broadcast(lambda: now)
    broadcast.follow("gone", 1, {"a": True})
    now = SILENT_S + 1
    broadcast.follow("g", 1, {"b": False})
    assert not broadcast.wants_previews("a")


async def test_a_service_that_stops_says_so_of_every_run() -> None:
    broadcast = Broadcast()
    broadcast.follow("g", 1, {"a": False})
    broadcast.follow("h", 1, {"b": False})
    broadcast.stop()
    assert await broadcast.events("g", 0) == [("a", Stopping())]
    assert await broadcast.events("h", 0) == [("b", Stopping())]


async def test_who_follows_a_run_of_a_service_that_stops_hears_so_too() -> None:
    broadcast = Broadcast()
    broadcast.stop()
    broadcast.follow("g", 1, {"a": False})
    assert await broadcast.events("g") == [("a", Stopping())]


async def test_nothing_is_kept_for_who_watches_no_more() -> None:
    now = 0.0
    broadcast = Broadcast(lambda: now)
    await broadcast.watch("g")
    now = SILENT_S + 1
    broadcast.changed("a")
    assert not broadcast._changes
