"""What changed is looked at when the dispatcher says so, in one query, and nothing where nobody listens."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

import pytest

from gateway.http import long_poll as module
from gateway.http.long_poll import StatusBroadcaster
from gateway.ledger.models import State, Status
from tests.gateway.fakes import LocalDispatcher, until


def waiting(name: str, position: int = 0) -> Status:
    return Status(name, "fal-ai/fooocus", State.QUEUED, position, None, None, None, None)


class FakeLedger:
    """Knows what it was told, and counts the questions."""

    def __init__(self) -> None:
        self.known: dict[str, Status] = {}
        self.asked: list[set[str]] = []
        self.faults = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def statuses(self, request_ids: Sequence[str]) -> Mapping[str, Status]:
        self.asked.append({*request_ids})
        found = {name: self.known[name] for name in request_ids if name in self.known}
        await self.gate.wait()
        if self.faults:
            self.faults -= 1
            raise OSError("disk")
        return found

    async def looked(self, times: int) -> None:
        async def reached() -> bool:
            return len(self.asked) >= times

        await until(reached)


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def link() -> LocalDispatcher:
    return LocalDispatcher()


@pytest.fixture
async def watching(ledger: FakeLedger, link: LocalDispatcher) -> AsyncIterator[StatusBroadcaster]:
    watching = StatusBroadcaster(ledger, link)  # type: ignore[arg-type]
    yield watching

    async def ended() -> bool:
        return all(loop.done() for loop in watching._loops.values())

    link.broadcast.changed("any")  # so that the last question is answered
    watching.changed({"a"})
    await until(ended)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked at because a time is over."""
    monkeypatch.setattr(module, "PERIOD_S", 60)
    monkeypatch.setattr(module, "TICK_S", 60)


async def heard(ledger: FakeLedger) -> None:
    """The dispatcher knows that somebody watches: the first look at all of them is over."""
    await ledger.looked(1)


@pytest.mark.usefixtures("slow")
async def test_what_changes_is_told_at_once(
    ledger: FakeLedger, watching: StatusBroadcaster, link: LocalDispatcher
) -> None:
    ledger.known = {"a": waiting("a"), "b": waiting("b")}
    with watching.watch(waiting("a")) as changed, watching.watch(waiting("b")) as same:
        await heard(ledger)
        ledger.known["a"] = waiting("a", 3)
        link.broadcast.changed("a")
        assert await changed.changed(5)
        assert changed.status == waiting("a", 3)
        assert not await same.changed(0)
        assert ledger.asked == [{"a", "b"}, {"a"}]


@pytest.mark.usefixtures("slow")
async def test_who_comes_with_a_status_that_has_just_changed_hears_so(
    ledger: FakeLedger, watching: StatusBroadcaster, link: LocalDispatcher
) -> None:
    ledger.known = {"a": waiting("a"), "b": waiting("b", 3)}
    with watching.watch(waiting("a")) as other:
        await heard(ledger)
        ledger.known["a"] = waiting("a", 1)
        link.broadcast.changed("b")
        link.broadcast.changed("a")
        assert await other.changed(5)
        with watching.watch(waiting("b", 0)) as late:  # read before that
            assert await late.changed(5)
            assert late.status == waiting("b", 3)


@pytest.mark.usefixtures("slow")
async def test_all_listeners_share_one_question(ledger: FakeLedger, watching: StatusBroadcaster) -> None:
    names = [f"r{number}" for number in range(50)]
    ledger.known = {name: waiting(name) for name in names}
    with ExitStack() as stack:
        for name in names * 2:
            stack.enter_context(watching.watch(waiting(name)))
        await heard(ledger)
    assert ledger.asked == [set(names)]


async def test_who_waits_hears_that_others_have_gone_before(
    ledger: FakeLedger, watching: StatusBroadcaster, link: LocalDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TICK_S", 60)
    ledger.known = {"b": waiting("b", 1)}
    with watching.watch(waiting("b", 1)) as moved:
        await heard(ledger)
        ledger.known = {"b": waiting("b", 0)}
        link.broadcast.changed("a")
        assert await moved.changed(5)
        assert moved.status == waiting("b", 0)


@pytest.mark.usefixtures("slow")
async def test_whoever_changes_something_has_it_seen_at_once(ledger: FakeLedger, watching: StatusBroadcaster) -> None:
    ledger.known = {"a": waiting("a")}
    with watching.watch(waiting("a")) as watch:
        await heard(ledger)
        ledger.known = {"a": waiting("a", 3)}
        watching.changed({"a"})
        assert await watch.changed(5)


@pytest.mark.parametrize("away", [False, True], ids=["silent", "away"])
async def test_a_dispatcher_that_says_nothing_delays_and_no_more(
    away: bool, ledger: FakeLedger, watching: StatusBroadcaster, link: LocalDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TICK_S", 60 if away else 0.02)
    monkeypatch.setattr(module, "PAUSE_S", 0.02)
    link.away = away
    ledger.known = {"a": waiting("a")}
    with watching.watch(waiting("a")) as watch:
        await heard(ledger)
        ledger.known = {"a": waiting("a", 3)}
        assert await watch.changed(5)


async def test_an_older_answer_does_not_undo_what_a_listener_knows(
    ledger: FakeLedger, watching: StatusBroadcaster
) -> None:
    ledger.known = {"a": waiting("a")}
    running = replace(waiting("a"), state=State.RUNNING, position=None)
    ledger.gate.clear()
    with watching.watch(waiting("a")):
        await ledger.looked(1)
        ledger.known = {"a": running}
        with watching.watch(running) as late:
            ledger.gate.set()
            watching.changed({"a"})
            await ledger.looked(2)
            assert not await late.changed(0)


async def test_a_request_that_is_gone_is_told(watching: StatusBroadcaster) -> None:
    with watching.watch(waiting("a")) as watch:
        assert await watch.changed(5)
        assert watch.status is None


async def test_a_ledger_that_fails_for_a_moment_delays_and_no_more(
    ledger: FakeLedger, watching: StatusBroadcaster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "TICK_S", 60)
    ledger.known, ledger.faults = {"a": waiting("a", 3)}, 2
    with watching.watch(waiting("a")) as watch:
        assert await watch.changed(5)
    assert "asked again" in caplog.text


async def test_nobody_is_asked_when_nobody_listens(
    ledger: FakeLedger, watching: StatusBroadcaster, link: LocalDispatcher
) -> None:
    ledger.known = {"a": waiting("a")}
    with watching.watch(waiting("a")):
        await heard(ledger)
    asked = len(ledger.asked)
    link.broadcast.changed("a")
    watching.changed({"a"})

    async def ended() -> bool:
        return all(loop.done() for loop in watching._loops.values())

    await until(ended)
    assert len(ledger.asked) == asked
    with watching.watch(waiting("a")):
        await ledger.looked(asked + 1)
