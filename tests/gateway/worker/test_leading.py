"""Of two dispatchers one leads, and the other one where that one is lost, lets go, or was too late."""

import asyncio
from contextlib import suppress

import pytest

from gateway.errors import StoreUnavailable
from gateway.ledger.store import SqlLedger
from gateway.monitoring.contract import LEADS
from gateway.worker.leading import Leading
from tests.gateway.ledger.works import Clock
from tests.gateway.monitors import RememberingMonitor

LEASE_S = 9.0


class Shaky(SqlLedger):
    """One whose leadership may be away."""

    away = False

    async def hold(self, service: str, name: str, lease_s: float) -> bool:
        self._reach()
        return await self.leadership.hold(service, name, lease_s)

    async def look(self, service: str) -> object:
        self._reach()
        return await self.leadership.look(service)

    async def let_go(self, service: str, name: str) -> None:
        self._reach()
        await self.leadership.let_go(service, name)

    def _reach(self) -> None:
        if self.away:
            raise StoreUnavailable("ledger")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shaky(ledger: SqlLedger, clock: Clock) -> Shaky:
    return Shaky(ledger.database, clock)


@pytest.fixture
def begun() -> list[str]:
    """Who began to lead."""
    return []


def dispatcher(
    name: str, shaky: Shaky, clock: Clock, begun: list[str], monitor: RememberingMonitor | None = None
) -> Leading:
    def now() -> float:
        return clock.now.timestamp()

    return Leading(shaky, "service", name, LEASE_S, lambda: begun.append(name), now, monitor)  # type: ignore[arg-type]


@pytest.fixture
def first(shaky: Shaky, clock: Clock, begun: list[str]) -> Leading:
    return dispatcher("first", shaky, clock, begun)


@pytest.fixture
def second(shaky: Shaky, clock: Clock, begun: list[str]) -> Leading:
    return dispatcher("second", shaky, clock, begun)


async def passing(seconds: int, clock: Clock, *looking: Leading) -> None:
    """So many seconds, in each of which these look."""
    for _ in range(seconds):
        clock.turn(1)
        for one in looking:
            with suppress(StoreUnavailable):
                await one.look()


async def test_the_first_leads_and_the_second_knows_it(
    first: Leading, second: Leading, clock: Clock, begun: list[str]
) -> None:
    await passing(30, clock, first, second)
    assert (first.leads, first.is_sure, first.leader) == (True, True, "first")
    assert (second.leads, second.is_sure, second.leader) == (False, False, "first")
    assert begun == ["first"]


async def test_the_second_takes_over_when_the_lease_of_one_that_is_lost_is_over(
    first: Leading, second: Leading, clock: Clock, begun: list[str]
) -> None:
    await passing(3, clock, first, second)
    await passing(int(LEASE_S) - 1, clock, second)
    assert not second.leads
    await passing(2, clock, second)
    assert second.is_sure
    assert begun == ["first", "second"]


async def test_who_lets_go_is_followed_at_once_and_does_not_come_back(
    first: Leading, second: Leading, clock: Clock
) -> None:
    await passing(3, clock, first, second)
    await first.leave()
    assert (first.leads, first.is_sure, first.leader) == (False, False, "")
    await passing(1, clock, first, second)
    assert (first.leads, second.is_sure) == (False, True)


async def test_who_stood_still_is_not_sure_and_ends_where_another_has_taken_over(
    first: Leading, second: Leading, clock: Clock, begun: list[str]
) -> None:
    await passing(3, clock, first, second)
    await passing(int(LEASE_S) + 2, clock, second)
    assert (first.leads, first.is_sure, first.leader) == (True, False, "")
    async with asyncio.timeout(10):
        await first.run()
    assert (first.leads, first.leader) == (False, "second")
    await passing(2 * int(LEASE_S), clock, first)  # whatever becomes of the second one
    assert begun == ["first", "second"]


async def test_a_ledger_that_was_away_costs_nobody_its_lead(
    first: Leading, second: Leading, shaky: Shaky, clock: Clock, begun: list[str]
) -> None:
    await passing(3, clock, first, second)
    shaky.away = True
    await passing(60, clock, first, second)
    assert (first.leads, first.is_sure) == (True, False)
    shaky.away = False
    await passing(int(LEASE_S) - 1, clock, second)
    assert not second.leads  # who leads may need as long until it has heard of it
    await passing(20, clock, first, second)
    assert first.is_sure
    assert begun == ["first"]


async def test_a_ledger_that_was_away_has_a_leader_again_where_the_last_one_was_lost_with_it(
    first: Leading, second: Leading, shaky: Shaky, clock: Clock
) -> None:
    await passing(3, clock, first, second)
    shaky.away = True
    await passing(60, clock, second)
    shaky.away = False
    await passing(int(LEASE_S) + 1, clock, second)
    assert second.is_sure


async def test_one_that_stood_still_itself_gives_who_leads_one_more_lease(
    first: Leading, second: Leading, clock: Clock
) -> None:
    """As both do on a machine that slept."""
    await passing(3, clock, first, second)
    clock.turn(3600)
    await second.look()
    await first.look()
    assert (first.is_sure, second.leads) == (True, False)


async def test_one_whose_answer_came_too_late_leads_all_the_same(
    first: Leading, second: Leading, shaky: Shaky, clock: Clock
) -> None:
    assert await shaky.leadership.hold("service", "first", LEASE_S)
    await passing(1, clock, second, first)
    assert (first.is_sure, second.leads) == (True, False)


async def test_it_goes_on_by_itself_and_tells_the_monitor(shaky: Shaky, clock: Clock, begun: list[str]) -> None:
    monitor = RememberingMonitor()
    one = dispatcher("one", shaky, clock, begun, monitor)
    shaky.away = True
    running = asyncio.create_task(one.run())
    gauge = (LEADS.name, frozenset[tuple[str, str]]())
    async with asyncio.timeout(10):
        while monitor.gauges.get(gauge) != 0.0:  # noqa: ASYNC110 (another task's doing)
            await asyncio.sleep(0.01)
        shaky.away = False
        while monitor.gauges.get(gauge) != 1.0:  # noqa: ASYNC110 (another task's doing)
            await asyncio.sleep(0.01)
        await one.leave()
        await running
    assert monitor.gauges[gauge] == 0.0
    assert await shaky.look("service") is None
