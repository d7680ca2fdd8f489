"""The work that is to be done, added up: what waits by priority, what is held, what came since."""

from typing import Any

import pytest
from sqlalchemy import Connection, insert, text

from benchmarks.ledger_depth import PostgresqlRows, SqliteSteps
from gateway.ledger.database import migrate
from gateway.ledger.demand import Demand, Waiting
from gateway.ledger.models import Outcome, Place, Priority, Terms
from gateway.ledger.store import SqlLedger
from gateway.ledger.tables import request
from pipelines.row_steps import row_steps_of
from tests.gateway.ledger.former import insert_request
from tests.gateway.ledger.works import APP, OK, Clock, engine_of, work

COST = row_steps_of(work("any").spec)
LOW = Terms("k", priority=Priority.LOW)


async def test_an_empty_ledger_has_nothing_to_do(ledger: SqlLedger) -> None:
    assert await ledger.demand() == Demand()


async def test_what_waits_is_told_by_priority_with_the_wait_of_its_oldest(ledger: SqlLedger, clock: Clock) -> None:
    await ledger.submit(work("a"), APP)
    clock.turn(5)
    await ledger.submit(work("b"), APP)
    await ledger.submit(work("c"), APP, LOW)
    clock.turn(2)
    demand = await ledger.demand()
    assert demand.waits(Priority.NORMAL) == Waiting(2, 2 * COST, 7)
    assert demand.waits(Priority.LOW) == Waiting(1, COST, 2)
    assert (demand.held, demand.newest) == (0, 3)


async def test_what_is_held_counts_as_claimed_until_it_has_begun_and_not_at_all_once_it_has_ended(
    ledger: SqlLedger,
) -> None:
    for name in "abc":
        await ledger.submit(work(name), APP)
    first, _, _ = await ledger.claim("one", 3, 60)
    await ledger.submit(work("run"), APP, Terms(listener="me"), Place("one", 60))
    assert await ledger.running(first)
    demand = await ledger.demand()
    assert (demand.waiting, demand.held) == ({}, 4)
    assert (demand.claimed_row_steps, demand.running_row_steps) == (2 * COST, 2 * COST)
    assert await ledger.finish(first, Outcome.OK, OK)
    assert (await ledger.demand()).running_row_steps == COST


async def test_what_goes_back_waits_as_long_as_it_has_been_there(ledger: SqlLedger, clock: Clock) -> None:
    await ledger.submit(work("a"), APP)
    (claim,) = await ledger.claim("one", 1, 60)
    clock.turn(30)
    assert await ledger.requeue(claim)
    assert (await ledger.demand()).waits(Priority.NORMAL) == Waiting(1, COST, 30)


async def test_what_came_since_the_last_time_is_told_even_where_it_is_done(ledger: SqlLedger) -> None:
    await ledger.submit(work("a"), APP)
    before = await ledger.demand()
    assert before.arrived_row_steps == 0
    for name in "bc":
        await ledger.submit(work(name), APP)
    (claim, *_) = await ledger.claim("one", 3, 60)
    assert await ledger.finish(claim, Outcome.OK, OK)
    now = await ledger.demand(before.newest)
    assert now.arrived_row_steps == 2 * COST
    assert (await ledger.demand(now.newest)).arrived_row_steps == 0


async def test_what_a_process_of_the_former_version_submits_costs_nothing_and_waits(url: str, clock: Clock) -> None:
    ledger = await SqlLedger.open(url, clock)
    engine = engine_of(url)
    with engine.begin() as connection:
        insert_request(connection, "old", clock.now)
    engine.dispose()
    clock.turn(3)
    assert (await ledger.demand()).waits(Priority.NORMAL) == Waiting(1, 0, 3)
    await ledger.close()


async def test_a_ledger_from_before_the_column_has_it_after_the_start(url: str, tmp_path: Any, clock: Clock) -> None:
    engine = engine_of(url)
    with engine.begin() as connection:
        migrate(connection, "0007")
        insert_request(connection, "old", clock.now)
    engine.dispose()
    ledger = await SqlLedger.open(url, clock, backups=tmp_path)
    await ledger.submit(work("new"), APP)
    assert (await ledger.demand()).waits(Priority.NORMAL) == Waiting(2, COST, 0)
    await ledger.close()


def _fill(connection: Connection, waiting: int, ended: int) -> None:
    row = dict(connection.execute(request.select()).mappings().one())
    del row["seq"]
    rows = [row | {"id": f"q{number}", "turn": number} for number in range(waiting)]
    rows += [row | {"id": f"d{number}", "state": "done"} for number in range(ended)]
    connection.execute(insert(request), rows)


async def _filled(url: str, clock: Clock, waiting: int, ended: int) -> SqlLedger:
    ledger = await SqlLedger.open(url, clock)
    await ledger.submit(work("first"), APP)
    await ledger.database.write(lambda connection: _fill(connection, waiting, ended))
    return ledger


async def test_the_demand_is_added_up_in_an_index_alone(url: str, clock: Clock) -> None:
    ledger = await _filled(url, clock, 10_000, 10_000)
    engine = engine_of(url)
    sqlite = engine.dialect.name == "sqlite"
    if not sqlite:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE request"))  # as the server does by itself a little later
    asked = (
        "SELECT state, priority, count(*), sum(row_steps), min(created_at) FROM request "
        "WHERE state <> 'done' GROUP BY state, priority"
    )
    with engine.connect() as connection:
        plan = str(connection.execute(text(f"EXPLAIN {'QUERY PLAN' if sqlite else ''} {asked}")).all())
    engine.dispose()
    assert ("COVERING INDEX request_demand" if sqlite else "Index Only Scan using request_demand") in plan
    assert (await ledger.demand()).waits(Priority.NORMAL).number == 10_001
    await ledger.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_long_history_costs_the_demand_nothing(kind: str, clock: Clock, request: pytest.FixtureRequest) -> None:
    meter = SqliteSteps() if kind == "sqlite" else PostgresqlRows()
    ledger = await _filled(request.getfixturevalue(f"{kind}_url"), clock, 10, 10)
    counted = []
    for number in range(2):
        newest = (await ledger.demand()).newest
        with meter.counting():
            assert (await ledger.demand(newest)).waits(Priority.NORMAL).number == 11
        counted.append(meter.counted)
        if number == 0:
            await ledger.database.write(_add_history)
    meter.close()
    await ledger.close()
    few, many = counted
    assert 0 < many <= 1.2 * few


def _add_history(connection: Connection) -> None:
    row = dict(connection.execute(request.select().limit(1)).mappings().one())
    del row["seq"]
    connection.execute(insert(request), [row | {"id": f"h{number}", "state": "done"} for number in range(5_000)])
    if connection.dialect.name == "postgresql":
        connection.execute(text("ANALYZE request"))
