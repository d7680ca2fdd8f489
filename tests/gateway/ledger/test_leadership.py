"""Of those who would lead one does, until its lease is over or it lets go."""

import asyncio

from sqlalchemy import select

from gateway.ledger.leadership import Leader
from gateway.ledger.store import SqlLedger
from gateway.ledger.tables import leader
from tests.gateway.ledger.works import Clock, engine_of

SERVICE, LEASE_S = "cluster/fooocus", 9.0


async def test_of_many_at_once_one_leads(url: str, ledger: SqlLedger, clock: Clock) -> None:
    another = await SqlLedger.open(url, clock)
    try:
        for _ in range(5):
            names = [f"one-{number}" for number in range(8)]
            held = await asyncio.gather(
                *(
                    (ledger, another)[place % 2].leadership.hold(SERVICE, name, LEASE_S)
                    for place, name in enumerate(names)
                )
            )
            assert sum(held) == 1
            assert await another.leadership.look(SERVICE) == Leader(names[held.index(True)], False)
            clock.turn(LEASE_S + 1)  # and again where a row is there
    finally:
        await another.close()


async def test_who_leads_goes_on_while_it_says_so_and_nobody_else_may(ledger: SqlLedger, clock: Clock) -> None:
    seats = ledger.leadership
    for _ in range(4):
        assert await seats.hold(SERVICE, "first", LEASE_S)
        clock.turn(LEASE_S - 1)
        assert not await seats.hold(SERVICE, "second", LEASE_S)
    assert await seats.look(SERVICE) == Leader("first", False)


async def test_a_lease_lasts_as_long_as_the_clock_stands_still(ledger: SqlLedger) -> None:
    seats = ledger.leadership
    assert await seats.hold(SERVICE, "first", 0.001)
    await asyncio.sleep(0.01)
    assert not await seats.hold(SERVICE, "second", LEASE_S)


async def test_another_takes_over_once_the_lease_is_over_and_then_stays(ledger: SqlLedger, clock: Clock) -> None:
    seats = ledger.leadership
    assert await seats.hold(SERVICE, "first", LEASE_S)
    clock.turn(LEASE_S + 0.1)
    assert await seats.look(SERVICE) == Leader("first", True)
    assert await seats.hold(SERVICE, "second", LEASE_S)
    assert not await seats.hold(SERVICE, "first", LEASE_S)
    assert await seats.look(SERVICE) == Leader("second", False)


async def test_who_was_silent_goes_on_where_nobody_has_taken_over(ledger: SqlLedger, clock: Clock) -> None:
    seats = ledger.leadership
    assert await seats.hold(SERVICE, "first", LEASE_S)
    clock.turn(10 * LEASE_S)
    assert await seats.hold(SERVICE, "first", LEASE_S)
    assert not await seats.hold(SERVICE, "second", LEASE_S)


async def test_another_leads_at_once_where_the_leader_has_let_go(ledger: SqlLedger) -> None:
    seats = ledger.leadership
    assert await seats.look(SERVICE) is None
    assert await seats.hold(SERVICE, "first", LEASE_S)
    await seats.let_go(SERVICE, "second")  # which is not its to let go
    assert await seats.look(SERVICE) == Leader("first", False)
    await seats.let_go(SERVICE, "first")
    assert await seats.look(SERVICE) is None
    assert await seats.hold(SERVICE, "second", LEASE_S)


async def test_each_service_has_a_leader_and_what_is_no_more_is_forgotten(
    url: str, ledger: SqlLedger, clock: Clock
) -> None:
    seats = ledger.leadership
    assert await seats.hold("old/fooocus", "first", LEASE_S)
    assert await seats.hold(SERVICE, "second", LEASE_S)
    clock.turn(25 * 3600)
    assert await seats.hold(SERVICE, "second", LEASE_S)
    assert await seats.hold("new/fooocus", "third", LEASE_S)
    engine = engine_of(url)
    with engine.connect() as connection:
        services = {*connection.execute(select(leader.c.service)).scalars()}
    engine.dispose()
    assert services == {SERVICE, "new/fooocus"}
