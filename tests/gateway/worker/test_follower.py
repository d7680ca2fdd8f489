"""A gateway follows its clients' runs: one lease and one poll for all of them, and no event is missed."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from gateway.endpoints import app_of
from gateway.errors import StoreUnavailable
from gateway.keys.base import Caller, KeyLimits
from gateway.ledger.models import AtOnce, Place, State, Status, Terms
from gateway.ledger.store import SqlLedger
from gateway.work import Step
from gateway.worker.events import Ended, Follower, FreePlaces, Gone, LatestEvents, News, RunEvent, Submitted
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


class Polled(LocalDispatcher):
    """polls: of how many runs each told."""

    def __init__(self) -> None:
        super().__init__()
        self.polls: list[int] = []

    async def poll(
        self, listener: str, number: int, runs: Mapping[str, bool], submitted: Sequence[Submitted] = ()
    ) -> News:
        self.polls.append(len(runs))
        return await super().poll(listener, number, runs, submitted)


async def follows(link: LocalDispatcher, name: str) -> None:
    """Wait until the dispatcher keeps the events of this run."""

    async def known() -> bool:
        return any(name in box.runs for box in link.broadcast._boxes.values())

    await until(known)


async def end_of(events: LatestEvents) -> list[RunEvent]:
    found: list[RunEvent] = []
    while Ended() not in found:
        await asyncio.wait_for(events.filled.wait(), 30)
        found += events.take()
    return found


async def test_what_happens_is_heard_at_once(ledger: SqlLedger) -> None:
    link = LocalDispatcher()
    follower = Follower(link, ledger, 30)
    with follower.follow("a", True) as events:
        follower.submitted("a", None)
        await follows(link, "a")
        link.broadcast.publish("a", Step(1, 4))
        link.broadcast.publish("a", Ended())
        assert await end_of(events) == [Step(1, 4), Ended()]


async def test_a_dispatcher_that_was_away_is_asked_again(ledger: SqlLedger) -> None:
    link = LocalDispatcher()
    link.away = True
    follower = Follower(link, ledger, 30)
    with follower.follow("a", False) as events:
        follower.submitted("a", None)
        link.away = False

        async def known() -> bool:
            link.broadcast.publish("a", Ended())
            return events.filled.is_set()

        await until(known)
        assert await end_of(events) == [Ended()]


async def test_a_hundred_runs_cost_one_lease_and_one_poll(ledger: SqlLedger) -> None:
    link, counting = Polled(), Counting(ledger)
    follower = Follower(link, counting, 0.3)
    follows = [follower.follow(str(number), False) for number in range(100)]
    for number, follow in enumerate(follows):
        follow.__enter__()
        follower.submitted(str(number), None)

    async def listened() -> bool:
        return len(counting.listened) >= 3

    await until(listened)
    assert set(counting.listened) == {100}  # one transaction tells of all of them
    assert set(link.polls) == {100}
    assert len(link.polls) < 5  # one of what was submitted, and one a second
    for follow in follows:
        follow.__exit__(None, None, None)


async def test_following_begins_again_after_it_has_ended(ledger: SqlLedger) -> None:
    link = LocalDispatcher()
    follower = Follower(link, ledger, 30)
    for name in ("a", "b"):
        with follower.follow(name, False) as events:
            follower.submitted(name, None)
            await follows(link, name)
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


async def test_a_run_is_lost_when_the_ledger_has_it_no_more_and_not_while_it_is_on_its_way_there(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.worker.events.CHECK_S", 0.01)
    asked: list[set[str]] = []

    class Asked(SqlLedger):
        async def statuses(self, request_ids: Sequence[str]) -> Mapping[str, Status]:
            asked.append({*request_ids})
            return await super().statuses(request_ids)

    follower = Follower(LocalDispatcher(), Asked(ledger.database), 30)
    await ledger.submit(work("there"), APP, Terms(listener=follower.name))
    with follower.follow("coming", False) as coming, follower.follow("there", False) as there:
        follower.submitted("there", None)

        async def often() -> bool:
            return len(asked) >= 3

        await until(often)
        assert asked[-1] == {"there"}
        assert (coming.take(), there.take()) == ([], [])
        follower.submitted("coming", None)
        await asyncio.wait_for(coming.filled.wait(), 30)
        assert coming.take() == [Gone()]


async def test_a_run_that_the_dispatcher_does_not_hear_of_is_put_back(ledger: SqlLedger) -> None:
    link = LocalDispatcher()
    follower = Follower(link, ledger, 30)
    accepted = await ledger.submit(work("a"), APP, Terms(listener=follower.name), Place("dispatcher", 60))
    link.away = True
    follower.submitted("a", accepted.claim)

    async def waits() -> bool:
        status = await ledger.status("a", APP)
        return status is not None and status.state is State.QUEUED

    await until(waits)


async def test_as_many_runs_get_a_place_as_the_dispatcher_has_said_and_again_as_many_as_it_says_next(
    ledger: SqlLedger,
) -> None:
    answered: list[int] = []

    class Roomy(LocalDispatcher):
        async def poll(
            self, listener: str, number: int, runs: Mapping[str, bool], submitted: Sequence[Submitted] = ()
        ) -> News:
            answered.append(number)
            return News([], FreePlaces("dispatcher", 5, 2, of_key=3))

    follower = Follower(Roomy(), ledger, 30)
    mine = Caller("mine", limits=KeyLimits(concurrency=1))
    assert follower.place(mine) is None  # nobody has said anything yet

    for times in (1, 2):
        follower.submitted("a", None)

        async def told(times: int = times) -> bool:
            return len(answered) == times and not follower._polls

        await until(told)
        assert follower.place(mine) == Place("dispatcher", 5, AtOnce(3, {"mine": 1}))
        assert follower.place(Caller("other")) == Place("dispatcher", 5, AtOnce(3))
        assert follower.place(mine) is None


async def test_no_run_gets_a_place_of_a_dispatcher_that_does_not_answer(ledger: SqlLedger) -> None:
    link = LocalDispatcher()
    link.away = True
    follower = Follower(link, ledger, 30)
    follower._places = FreePlaces("dispatcher", 5, 2)
    follower.submitted("a", None)

    async def none() -> bool:
        return follower.place(Caller()) is None

    await until(none)
