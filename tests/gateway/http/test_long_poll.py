"""Watching: one query for all listeners, at once when told to look, and nothing where nobody listens."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

import pytest

from gateway.http import long_poll as module
from gateway.http.long_poll import Watching
from gateway.ledger.models import State, Status
from tests.gateway.fakes import until


def waiting(name: str, position: int = 0) -> Status:
    return Status(name, "fal-ai/fooocus", State.QUEUED, position, None, None, None, None)


class FakeLedger:
    """Knows what it was told, and counts the questions."""

    def __init__(self) -> None:
        self.known: dict[str, Status] = {}
        self.asked: list[frozenset[str]] = []
        self.faults = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def statuses(self, request_ids: Sequence[str]) -> Mapping[str, Status]:
        self.asked.append(frozenset(request_ids))
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
def ledger(monkeypatch: pytest.MonkeyPatch) -> FakeLedger:
    monkeypatch.setattr(module, "PERIOD_S", 0.01)
    return FakeLedger()


@pytest.fixture
async def watching(ledger: FakeLedger) -> AsyncIterator[Watching]:
    watching = Watching(ledger)  # type: ignore[arg-type]
    yield watching
    await until_nobody_looks(watching)


async def until_nobody_looks(watching: Watching) -> None:
    async def ended() -> bool:
        return watching._looking is None

    await until(ended)


async def test_all_listeners_share_one_question_a_period(ledger: FakeLedger, watching: Watching) -> None:
    names = [f"r{number}" for number in range(50)]
    ledger.known = {name: waiting(name) for name in names}
    with ExitStack() as stack:
        for name in names * 2:
            stack.enter_context(watching.watch(waiting(name)))
        await ledger.looked(3)
    assert set(ledger.asked) == {frozenset(names)}


async def test_a_change_wakes_its_listeners_alone(ledger: FakeLedger, watching: Watching) -> None:
    ledger.known = {"a": waiting("a", 3), "b": waiting("b")}
    with watching.watch(waiting("a")) as changed, watching.watch(waiting("b")) as same:
        assert await changed.changed(5)
        assert changed.status == waiting("a", 3)
        await ledger.looked(len(ledger.asked) + 2)
        assert not await same.changed(0)
        assert not await changed.changed(0)


async def test_whoever_changes_something_has_it_seen_at_once(
    ledger: FakeLedger, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PERIOD_S", 60)
    ledger.known = {"a": waiting("a", 3)}
    with watching.watch(waiting("a")) as watch:
        watching.look()
        assert await watch.changed(5)
        monkeypatch.setattr(module, "PERIOD_S", 0)
        watching.look()


async def test_an_older_answer_does_not_undo_what_a_listener_knows(ledger: FakeLedger, watching: Watching) -> None:
    ledger.known = {"a": waiting("a")}
    running = replace(waiting("a"), state=State.RUNNING, position=None)
    ledger.gate.clear()
    with watching.watch(waiting("a")):
        await ledger.looked(1)
        ledger.known = {"a": running}
        with watching.watch(running) as late:
            ledger.gate.set()
            await ledger.looked(3)
            assert not await late.changed(0)


async def test_a_request_that_is_gone_is_told(ledger: FakeLedger, watching: Watching) -> None:
    with watching.watch(waiting("a")) as watch:
        assert await watch.changed(5)
        assert watch.status is None


async def test_a_ledger_that_fails_for_a_moment_delays_and_no_more(
    ledger: FakeLedger, watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.known, ledger.faults = {"a": waiting("a", 3)}, 2
    with watching.watch(waiting("a")) as watch:
        assert await watch.changed(5)
    assert "asked again" in caplog.text


async def test_nobody_is_asked_when_nobody_listens(ledger: FakeLedger, watching: Watching) -> None:
    ledger.known = {"a": waiting("a")}
    with watching.watch(waiting("a")):
        await ledger.looked(1)
    await until_nobody_looks(watching)
    assert "watching" not in {task.get_name() for task in asyncio.all_tasks()}
    asked = len(ledger.asked)
    with watching.watch(waiting("a")):
        await ledger.looked(asked + 1)
