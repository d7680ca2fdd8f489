"""What the ledger's figures become: queue, ends and webhooks, on both databases."""

import time
from datetime import timedelta

import pytest
from sqlalchemy import Connection

from gateway.ledger.figures import SqlFigures
from gateway.ledger.models import Outcome, Priority, Terms
from gateway.ledger.store import SqlLedger
from gateway.ledger.tables import request
from gateway.metering.fal import FalFigures, Runners
from gateway.metering.ledger_meter import LAG, LedgerMeter
from gateway.monitoring.contract import (
    CANCELLED_RUNNING,
    DEPTH,
    ENDED,
    FAL_COMPLETED,
    FAL_CONCURRENT,
    FAL_LATENCY,
    FAL_QUEUE,
    FAL_RECEIVED,
    FAL_RUNNERS,
    HELD,
    OLDEST_WAIT,
    REQUEST_SECONDS,
    WEBHOOKS_OLDEST,
    WEBHOOKS_WAITING,
)
from tests.gateway.ledger.works import APP, FAULT, OK, Clock, claimed, work
from tests.gateway.monitors import RememberingMonitor

LAG_S = LAG / timedelta(seconds=1)
LATE = Terms(priority=Priority.LOW)


@pytest.fixture
def monitor() -> RememberingMonitor:
    return RememberingMonitor()


@pytest.fixture
def meter(ledger: SqlLedger, monitor: RememberingMonitor, clock: Clock) -> LedgerMeter:
    async def runners() -> Runners:
        return Runners(alive=3, pending=1)

    return LedgerMeter(SqlFigures(ledger.database), monitor, FalFigures("cuda"), runners, clock)


async def test_what_waits_is_told_by_endpoint_and_priority_with_the_oldest_wait(
    ledger: SqlLedger, meter: LedgerMeter, monitor: RememberingMonitor, clock: Clock
) -> None:
    await ledger.submit(work("a"), APP)
    clock.turn(30)
    await ledger.submit(work("b"), APP)
    await ledger.submit(work("c"), APP, LATE)
    clock.turn(12)
    await meter.look()
    normal, low = {"endpoint": APP, "priority": "normal"}, {"endpoint": APP, "priority": "low"}
    assert [monitor.gauge(DEPTH, **of) for of in (normal, low)] == [2, 1]
    assert [monitor.gauge(OLDEST_WAIT, **of) for of in (normal, low)] == [42, 12]
    await ledger.claim("one", 3, 60)
    await meter.look()
    assert [monitor.gauge(DEPTH, **of) for of in (normal, low)] == [0, 0]
    assert [monitor.gauge(OLDEST_WAIT, **of) for of in (normal, low)] == [0, 0]
    assert monitor.gauge(HELD, endpoint=APP, state="claimed") == 3


async def test_each_end_is_counted_once_whoever_wrote_it(
    ledger: SqlLedger, meter: LedgerMeter, monitor: RememberingMonitor, clock: Clock
) -> None:
    drawn, failed, cancelled = [await claimed(ledger, name) for name in ("a", "b", "c")]
    await ledger.running(cancelled)
    await ledger.submit(work("d"), APP)
    clock.turn(5)
    await ledger.finish(drawn, Outcome.OK, OK)
    await ledger.finish(failed, Outcome.ERROR, FAULT)
    await ledger.finish(cancelled, Outcome.CANCELLED, FAULT)
    await ledger.cancel("d", APP)
    for _ in range(3):
        clock.turn(LAG_S)
        await meter.look()
    assert monitor.count(ENDED, endpoint=APP, outcome="ok", error_type="none") == 1
    assert monitor.count(ENDED, endpoint=APP, outcome="error", error_type="runner_connection_error") == 1
    assert monitor.observed(REQUEST_SECONDS, endpoint=APP, outcome="ok") == [5]
    assert len(monitor.observed(REQUEST_SECONDS, endpoint=APP, outcome="cancelled")) == 2
    assert monitor.count(CANCELLED_RUNNING, endpoint=APP) == 1


async def test_webhooks_that_are_owed_are_told_with_the_oldest(
    ledger: SqlLedger, meter: LedgerMeter, monitor: RememberingMonitor, clock: Clock
) -> None:
    await ledger.submit(work("a"), APP, Terms(webhook="https://example.com/"))
    (claim,) = await ledger.claim("one", 1, 60)
    await ledger.finish(claim, Outcome.OK, OK)
    clock.turn(90)
    await meter.look()
    assert (monitor.gauge(WEBHOOKS_WAITING), monitor.gauge(WEBHOOKS_OLDEST)) == (1, 90)
    (owed,) = await ledger.outbox.claim("one", 1, 60)
    await ledger.outbox.delivered(owed)
    await meter.look()
    assert (monitor.gauge(WEBHOOKS_WAITING), monitor.gauge(WEBHOOKS_OLDEST)) == (0, 0)


async def test_fals_gauges_are_of_now_and_of_the_last_minute(
    ledger: SqlLedger, meter: LedgerMeter, monitor: RememberingMonitor, clock: Clock
) -> None:
    drawn, held = [await claimed(ledger, name) for name in ("a", "b")]
    await ledger.running(held)
    await ledger.submit(work("c"), APP)
    clock.turn(3)
    await ledger.finish(drawn, Outcome.OK, OK)
    clock.turn(LAG_S)
    await meter.look()
    app = {"application": APP}
    assert monitor.gauge(FAL_QUEUE, **app) == monitor.gauge(FAL_CONCURRENT, **app) == 1
    assert monitor.gauge(FAL_RECEIVED, **app, method="POST") == 3
    assert monitor.gauge(FAL_COMPLETED, **app, method="POST", status="200") == 1
    told = {le: monitor.gauge(FAL_LATENCY, **app, le=le) for le in ("2.5", "5", "+Inf")}
    assert told == {"2.5": 0, "5": 1, "+Inf": 1}
    states = ("idle", "running", "pending")
    assert [monitor.gauge(FAL_RUNNERS, **app, state=state, machine_type="cuda") for state in states] == [2, 1, 1]
    clock.turn(61)
    await meter.look()
    assert monitor.gauge(FAL_COMPLETED, **app, method="POST", status="200") == 0
    assert monitor.gauge(FAL_RECEIVED, **app, method="POST") == 0


async def test_a_look_costs_little_with_ten_thousand_requests_waiting(sqlite_url: str) -> None:
    ledger = await SqlLedger.open(sqlite_url)
    try:
        template, place = await _row(ledger), "seq, id, turn"
        await ledger.database.write(lambda connection: _copy(connection, template, place, 10_000))
        monitor = RememberingMonitor()
        meter = LedgerMeter(SqlFigures(ledger.database), monitor)
        took = []
        for _ in range(5):
            began = time.process_time()
            await meter.look()
            took.append(time.process_time() - began)
        assert monitor.gauge(DEPTH, endpoint=APP, priority="normal") == 10_001
        assert min(took) < 0.1
    finally:
        await ledger.close()


async def _row(ledger: SqlLedger) -> list[str]:
    """The columns of a request, which is then there, that its copies have of it."""
    await ledger.submit(work("first"), APP)
    return [column.name for column in request.columns if column.name not in ("seq", "id", "turn")]


def _copy(connection: Connection, same: list[str], place: str, number: int) -> None:
    columns = ", ".join(same)
    connection.exec_driver_sql(
        f"WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i <= {number}) "  # noqa: S608
        f"INSERT INTO request ({place}, {columns}) SELECT i, 'copy' || i, i, {columns} FROM request, n WHERE seq = 1"
    )
