"""A gateway follows its clients' runs: one lease and one poll for all of them, and no event is missed."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from gateway.endpoints import app_of
from gateway.errors import StoreUnavailable
from gateway.ledger.models import Place, State, Terms
from gateway.ledger.store import SqlLedger
from gateway.work import Step
from gateway.worker.events import Ended, Follower, LatestEvents, News, RunEvent
from tests.gateway.fakes import FAST, LocalDispatcher, until, work

APP = app_of(FAST)


class Counting(SqlLedger):
    """Counts the leases that are written."""

    def __init__(self, ledger: SqlLedger) -> None:
        super().__init__(ledger.database)
        self.listened: list[int] = []

    async def listen(self, listener: str, lease_s: float, request_ids: Sequence[str]) -> None:
        self.listened.append(len(request_ids))
        await super().listen(listener, lease_s, request_ids)


async def end_of(events: LatestEvents) -> list[RunEvent]:
    found: list[RunEvent] = []
    while Ended() not in found:
        await asyncio.wait_for(events.filled.wait(), 5)
        found += events.take()
    return found


async def test_what_happens_is_heard_at_once(ledger: SqlLedger) -> None:
    link = LocalDispatcher()
    follower = Follower(link, ledger, 30)
    with follower.follow("a", True) as events:
        await follower.reserve("a")
        link.broadcast.publish("a", Step(1, 4))
        link.broadcast.publish("a", Ended())
        assert await end_of(events) == [Step(1, 4), Ended()]


async def test_a_dispatcher_that_was_away_is_asked_again(ledger: SqlLedger) -> None:
    link = LocalDispatcher()
    link.away = True
    follower = Follower(link, ledger, 30)
    with follower.follow("a", False) as events:
        await follower.reserve("a")
        await follower.submitted("a", None)
        link.away = False

        async def known() -> bool:
            link.broadcast.publish("a", Ended())
            return events.filled.is_set()

        await until(known)
        assert await end_of(events) == [Ended()]


async def test_a_hundred_runs_cost_one_lease_and_one_poll(ledger: SqlLedger) -> None:
    polls: list[int] = []

    class Noting(LocalDispatcher):
        async def poll(self, listener: str, runs: Mapping[str, bool]) -> News:
            polls.append(len(runs))
            return await super().poll(listener, runs)

    counting = Counting(ledger)
    follower = Follower(Noting(), counting, 0.3)
    follows = [follower.follow(str(number), False) for number in range(100)]
    for follow in follows:
        follow.__enter__()

    async def listened() -> bool:
        return len(counting.listened) >= 3

    await until(listened)
    assert set(counting.listened) == {100}  # one transaction tells of all of them
    assert set(polls) == {100}
    for follow in follows:
        follow.__exit__(None, None, None)


async def test_following_begins_again_after_it_has_ended(ledger: SqlLedger) -> None:
    link = LocalDispatcher()
    follower = Follower(link, ledger, 30)
    for name in ("a", "b"):
        with follower.follow(name, False) as events:
            await follower.reserve(name)
            link.broadcast.publish(name, Ended())
            assert await end_of(events) == [Ended()]


async def test_a_ledger_that_is_away_costs_a_line_and_no_run(
    ledger: SqlLedger, caplog: pytest.LogCaptureFixture
) -> None:
    class Away(Counting):
        async def listen(self, listener: str, lease_s: float, request_ids: Sequence[str]) -> None:
            self.listened.append(len(request_ids))
            raise StoreUnavailable("ledger")

    away = Away(ledger)

    async def several() -> bool:
        return len(away.listened) > 3

    with Follower(LocalDispatcher(), away, 0.03).follow("a", False):
        await until(several)
    (said,) = [record for record in caplog.records if record.name.startswith("fooocus")]
    assert "ledger store" in said.getMessage()
    assert said.exc_info is None


async def test_a_run_that_the_dispatcher_does_not_hear_of_is_put_back(ledger: SqlLedger) -> None:
    link = LocalDispatcher()
    follower = Follower(link, ledger, 30)
    accepted = await ledger.submit(work("a"), APP, Terms(listener=follower.name), Place("dispatcher", 60))
    link.away = True
    await follower.submitted("a", accepted.claim)
    status = await ledger.status("a", APP)
    assert status is not None
    assert status.state is State.QUEUED
