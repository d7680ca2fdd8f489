"""Callers reach the Dispatcher that leads, by what those say that they have asked."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from ray.exceptions import RayTaskError

from deployments.leader import LeaderHandle, NobodyLeads, Told, by_leader
from gateway.worker.leading import Leading


class Seat:
    def __init__(self, leads: bool, leader: str) -> None:
        self.leads, self.leader = leads, leader


class Replica:
    """A dispatcher that says who it is."""

    def __init__(self, name: str, leader: str) -> None:
        self.name, self.leading = name, Seat(name == leader, leader)
        self.asked = 0

    @by_leader
    async def who(self, word: str) -> str:
        return f"{self.name}: {word}"


class Handle:
    """Reaches the replica that is chosen, where it lives, or else the first."""

    def __init__(self, replicas: list[Replica], chosen: str = "") -> None:
        self._replicas, self._chosen = replicas, chosen

    def options(self, *, session_id: str) -> "Handle":
        return Handle(self._replicas, session_id)

    @property
    def who(self) -> Any:
        chosen = [one for one in self._replicas if one.name == self._chosen]
        (replica, *_) = [*chosen, *self._replicas]
        replica.asked += 1

        class Method:
            @staticmethod
            def remote(word: str) -> Any:
                return asyncio.ensure_future(replica.who(word))

        return Method()


def replicas(leader: str) -> list[Replica]:
    return [Replica("a", leader), Replica("b", leader)]


async def test_who_leads_is_asked_and_remembered() -> None:
    both = replicas("b")
    handle = LeaderHandle(Handle(both), 5)
    assert [await handle.ask("who", word) for word in "xyz"] == ["b: x", "b: y", "b: z"]
    assert [one.asked for one in both] == [1, 3]


async def test_another_that_takes_over_is_found_and_the_last_one_is_asked_no_more() -> None:
    both = replicas("a")
    handle = LeaderHandle(Handle(both), 5)
    assert await handle.ask("who", "x") == "a: x"
    both[0].leading, both[1].leading = Seat(False, "b"), Seat(True, "b")
    assert [await handle.ask("who", word) for word in "yz"] == ["b: y", "b: z"]
    assert both[0].asked == 2


async def test_while_nobody_leads_it_is_said_after_each_was_asked_once() -> None:
    both = [Replica("b", "gone")]
    handle = LeaderHandle(Handle(both), 5)
    with pytest.raises(NobodyLeads):
        await handle.ask("who", "x")
    with pytest.raises(NobodyLeads):
        await handle.ask("who", "x")
    assert both[0].asked == 3
    both[0].leading = Seat(True, "b")
    assert await handle.ask("who", "x") == "b: x"


async def test_one_that_is_not_sure_is_heard_and_then_any_may_be_asked() -> None:
    """Its ledger may be away, or it alone from its ledger."""
    both = [Replica("a", "b"), Replica("b", "b")]
    handle = LeaderHandle(Handle(both), 5)
    both[1].leading.leader = ""
    assert await handle.ask("who", "x") == "b: x"
    both[0].leading = Seat(True, "a")
    assert await handle.ask("who", "x") == "a: x"


@pytest.mark.parametrize("failing", [ConnectionError, None])
async def test_one_that_does_not_answer_is_given_up_and_any_may_be_asked(
    failing: Callable[[], Exception] | None,
) -> None:
    both = replicas("b")
    handle = LeaderHandle(Handle(both), 0.05)
    assert await handle.ask("who", "x") == "b: x"

    async def lost(word: str) -> Told:
        if failing is not None:
            raise failing()
        await asyncio.sleep(60)
        return Told("b", True, word)

    both[1].who = lost  # type: ignore[method-assign]
    with pytest.raises(failing or TimeoutError):  # type: ignore[arg-type]
        await handle.ask("who", "x")
    both[0].leading = Seat(True, "a")
    assert await handle.ask("who", "x") == "a: x"


async def test_one_that_raises_has_answered_and_goes_on_leading() -> None:
    """One of the version before does not know all that it is asked: what all wait for goes to it as before."""
    both = replicas("b")
    handle = LeaderHandle(Handle(both), 5)
    assert await handle.ask("who", "x") == "b: x"

    async def raising(word: str) -> Told:
        raise RayTaskError("overview", "Traceback", AttributeError("overview")).as_instanceof_cause()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(both[1], "who", raising)
        with pytest.raises(AttributeError):
            await handle.ask("who", "y")
    assert await handle.ask("who", "z") == "b: z"
    assert [one.asked for one in both] == [1, 3]


def test_what_leads_is_as_who_asks_expects_it() -> None:
    assert isinstance(Leading.leads, property)
    assert isinstance(Leading.leader, property)
