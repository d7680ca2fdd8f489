"""What operators are told of a ledger: what goes, the last errors, webhooks that are owed; by three statements."""

import pytest

from gateway.ledger.figures import SqlFigures
from gateway.ledger.models import Outcome, Priority, State, Terms
from gateway.ledger.store import SqlLedger
from tests.gateway.ledger.test_costs import costs
from tests.gateway.ledger.works import APP, FAULT, OK, Clock, claimed, work

LATE = Terms("k", priority=Priority.LOW, webhook="https://example.com/")


async def test_what_goes_is_told_by_endpoint_priority_and_state(ledger: SqlLedger, clock: Clock) -> None:
    figures, began = SqlFigures(ledger.database), clock.now
    await ledger.submit(work("a"), APP)
    await ledger.submit(work("b", "fal-ai/fooocus/inpaint"), APP, LATE)
    clock.turn(30)
    running = await claimed(ledger, "c")
    assert running.work.request_id == "a"
    await ledger.running(running)
    now = await figures.now(clock.now, 5)
    going = {(one.endpoint, one.priority, one.state): (one.number, one.oldest) for one in now.going}
    assert going == {
        (APP, Priority.NORMAL, State.RUNNING): (1, began),
        (APP, Priority.NORMAL, State.QUEUED): (1, clock.now),
        ("fal-ai/fooocus/inpaint", Priority.LOW, State.QUEUED): (1, began),
    }
    assert (now.at, now.failed, now.owed.number) == (clock.now, [], 0)


async def test_the_last_errors_are_told_first_and_no_more_than_are_asked_for(ledger: SqlLedger, clock: Clock) -> None:
    for name in ("a", "b", "c", "d"):
        claim = await claimed(ledger, name)
        clock.turn(1)
        await ledger.finish(claim, Outcome.OK, OK) if name == "c" else await ledger.finish(claim, Outcome.ERROR, FAULT)
    await ledger.submit(work("e"), APP)
    await ledger.cancel("e", APP)
    found = (await SqlFigures(ledger.database).now(clock.now, 2)).failed
    assert [one.request_id for one in found] == ["d", "b"]
    last = found[0]
    assert (last.endpoint, last.key, last.status, last.error_type, last.error) == (
        *(APP, "", 503),
        *("runner_connection_error", "gone"),
    )
    assert last.finished_at == clock.now


async def test_errors_are_looked_for_among_the_last_ends_alone(
    ledger: SqlLedger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.ledger.figures.LOOKED_THROUGH", 2)
    for name, outcome, answer in (("a", Outcome.ERROR, FAULT), ("b", Outcome.ERROR, FAULT), ("c", Outcome.OK, OK)):
        claim = await claimed(ledger, name)
        clock.turn(1)
        await ledger.finish(claim, outcome, answer)
    found = (await SqlFigures(ledger.database).now(clock.now, 20)).failed
    assert [one.request_id for one in found] == ["b"]


async def test_it_takes_three_statements_and_no_commit(ledger: SqlLedger, clock: Clock) -> None:
    await ledger.submit(work("a"), APP, LATE)
    (claim,) = await ledger.claim("one", 1, 60)
    await ledger.finish(claim, Outcome.ERROR, FAULT)
    clock.turn(90)
    with costs(ledger) as counted:
        now = await SqlFigures(ledger.database).now(clock.now, 20)
    assert (counted["statements"], counted["commits"]) == (3, 0)
    assert (now.owed.number, [one.key for one in now.failed]) == (1, ["k"])
