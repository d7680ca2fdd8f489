"""Holding a request: heartbeats that carry reports, faults that cost retries, deadlines to start."""

from datetime import timedelta

import pytest

from gateway.ledger.models import (
    Answer,
    CancelAnswer,
    Claim,
    LeaseRenewal,
    Limits,
    LogBatch,
    Outcome,
    ReleaseOutcome,
    State,
    Terms,
)
from gateway.ledger.store import SqlLedger
from tests.gateway.ledger.works import APP, FAULT, OK, Clock, claimed, state, work


async def answer(ledger: SqlLedger, name: str) -> Answer:
    found = await ledger.answer(name, APP)
    assert found is not None
    return found


async def again(ledger: SqlLedger, owner: str = "one") -> Claim:
    (claim,) = await ledger.claim(owner, 1, 60)
    return claim


async def test_one_heartbeat_writes_what_happened_to_all_of_an_owners_requests(ledger: SqlLedger, clock: Clock) -> None:
    a, b, c = [await claimed(ledger, name) for name in "abc"]
    clock.turn(1)
    reports = [LogBatch(a, [("INFO", "a1"), ("INFO", "a2")]), LogBatch(b, [("WARN", "b1")])]
    beat = await ledger.heartbeat("one", 60, [*reports, LogBatch(c)])
    assert beat == LeaseRenewal({"a": 1, "b": 1, "c": 1}, frozenset())
    await ledger.heartbeat("one", 60, [LogBatch(a, [("INFO", "a3")])])
    assert [(entry.number, entry.message) for entry in await ledger.logs("a")] == [(1, "a1"), (2, "a2"), (3, "a3")]
    assert [(entry.level, entry.message) for entry in await ledger.logs("b")] == [("WARN", "b1")]
    assert await ledger.finish(c, Outcome.OK, OK)
    assert await ledger.heartbeat("one", 60, [LogBatch(one) for one in (a, b, c)]) == LeaseRenewal(
        {"a": 1, "b": 1}, frozenset()
    )


@pytest.mark.parametrize("former_last", [False, True])
async def test_a_report_of_a_former_attempt_takes_nothing_from_the_one_that_is_held(
    ledger: SqlLedger, former_last: bool
) -> None:
    former = await claimed(ledger, "twice")
    await ledger.requeue(former)
    reports = [LogBatch(former, [("INFO", "a ghost")]), LogBatch(await again(ledger), [("INFO", "here")])]
    beat = await ledger.heartbeat("one", 60, reports[::-1] if former_last else reports)
    assert beat.held == {"twice": 2}
    assert [entry.message for entry in await ledger.logs("twice")] == ["here"]


async def test_an_owner_hears_at_its_heartbeat_what_was_cancelled_and_what_it_has_lost(
    ledger: SqlLedger, clock: Clock
) -> None:
    cancelled, lost, kept = [await claimed(ledger, name) for name in ("cancelled", "lost", "kept")]
    await ledger.cancel("cancelled", APP)
    await ledger.requeue(lost)
    elsewhere = await again(ledger, "two")
    beat = await ledger.heartbeat(
        "one", 60, [LogBatch(cancelled), LogBatch(lost, [("INFO", "a ghost")]), LogBatch(kept)]
    )
    assert beat == LeaseRenewal({"cancelled": 1, "kept": 1}, frozenset({"cancelled"}))
    assert await ledger.logs("lost") == []
    assert await state(ledger, "lost") == (State.CLAIMED, None)
    assert await ledger.heartbeat("two", 60, [LogBatch(elsewhere)]) == LeaseRenewal(
        {"lost": elsewhere.attempt}, frozenset()
    )
    assert await ledger.finish(kept, Outcome.OK, OK)


async def test_a_report_of_a_former_attempt_by_the_same_owner_does_nothing(ledger: SqlLedger, clock: Clock) -> None:
    former = await claimed(ledger, "a")
    await ledger.requeue(former)
    await again(ledger)
    clock.turn(50)
    beat = await ledger.heartbeat("one", 60, [LogBatch(former, [("INFO", "a ghost")])])
    assert beat.held == {}
    assert await ledger.logs("a") == []
    assert await state(ledger, "a") == (State.CLAIMED, None)
    clock.turn(11)
    assert await ledger.expire() == 1


async def test_a_claim_whose_answer_was_lost_runs_out_though_its_owner_lives(ledger: SqlLedger, clock: Clock) -> None:
    known, _ = [await claimed(ledger, name, lease_s=30) for name in ("known", "unheard-of")]
    clock.turn(20)
    assert (await ledger.heartbeat("one", 30, [LogBatch(known)])).held == {"known": 1}
    clock.turn(11)
    assert await ledger.expire() == 1
    assert await state(ledger, "known") == (State.CLAIMED, None)
    assert (await again(ledger, "two")).work == work("unheard-of")


async def test_a_heartbeat_moves_the_end_of_the_lease(ledger: SqlLedger, clock: Clock) -> None:
    claim = await claimed(ledger, "a", lease_s=30)
    clock.turn(20)
    await ledger.heartbeat("one", 30, [LogBatch(claim)])
    clock.turn(20)
    assert await ledger.expire() == 0
    clock.turn(11)
    assert await ledger.expire() == 1


@pytest.mark.parametrize("way", ["retry", "expire"])
async def test_the_tenth_retry_is_the_last(ledger: SqlLedger, clock: Clock, way: str) -> None:
    claim = await claimed(ledger, "a")
    for number in range(11):
        assert await state(ledger, "a") == (State.CLAIMED, None)
        clock.turn(61)
        if way == "expire":
            assert await ledger.expire() == (number < 10)
        else:
            assert await ledger.retry(claim, FAULT) is (ReleaseOutcome.QUEUED if number < 10 else ReleaseOutcome.ENDED)
        if number < 10:
            claim = await again(ledger)
    assert claim.attempt == 11
    assert await state(ledger, "a") == (State.DONE, Outcome.ERROR)
    written = await answer(ledger, "a")
    assert written == FAULT if way == "retry" else written.error_type == "runner_disconnected"
    assert await ledger.retry(claim, FAULT) is ReleaseOutcome.LOST


async def test_a_request_takes_three_replicas_down_at_most(ledger: SqlLedger) -> None:
    claim = await claimed(ledger, "a")
    for expected in (ReleaseOutcome.QUEUED, ReleaseOutcome.QUEUED, ReleaseOutcome.ENDED):
        assert await ledger.retry(claim, FAULT, crashed=True) is expected
        if expected is ReleaseOutcome.QUEUED:
            claim = await again(ledger)
    assert await answer(ledger, "a") == FAULT


async def test_a_clean_hand_over_costs_no_retry(url: str, clock: Clock) -> None:
    ledger = await SqlLedger.open(url, clock, Limits(retries=0))
    claim = await claimed(ledger, "a")
    for _ in range(3):
        assert await ledger.requeue(claim)
        claim = await again(ledger)
    assert await ledger.retry(claim, FAULT) is ReleaseOutcome.ENDED
    await ledger.close()


async def test_a_request_that_may_not_be_retried_ends_with_its_first_fault(ledger: SqlLedger) -> None:
    await ledger.submit(work("a"), APP, Terms(may_retry=False))
    claim = await again(ledger)
    await ledger.requeue(claim)
    claim = await again(ledger)
    assert await ledger.retry(claim, FAULT) is ReleaseOutcome.ENDED
    assert await answer(ledger, "a") == FAULT


async def test_a_fault_of_a_cancelled_request_ends_it_cancelled(ledger: SqlLedger) -> None:
    claim = await claimed(ledger, "a")
    await ledger.cancel("a", APP)
    assert await ledger.retry(claim, FAULT) is ReleaseOutcome.ENDED
    assert await state(ledger, "a") == (State.DONE, Outcome.CANCELLED)


async def test_what_has_not_begun_by_its_deadline_ends_as_fal_says(ledger: SqlLedger, clock: Clock) -> None:
    await ledger.submit(work("a"), APP, Terms(start_within_s=30))
    clock.turn(29)
    assert await ledger.expire() == 0
    assert await state(ledger, "a") == (State.QUEUED, None)
    clock.turn(1)
    assert await ledger.claim("one", 1, 60) == []
    assert await ledger.expire() == 0
    written = await answer(ledger, "a")
    assert (written.status, written.error_type) == (504, "request_timeout")
    assert written.headers["x-fal-request-timeout-type"] == "user"
    assert (await state(ledger, "a"))[1] is Outcome.ERROR


@pytest.mark.parametrize("way", ["running", "expire"])
async def test_a_claim_that_has_not_begun_by_its_deadline_is_lost(ledger: SqlLedger, clock: Clock, way: str) -> None:
    await ledger.submit(work("a"), APP, Terms(start_within_s=30))
    claim = await again(ledger)
    clock.turn(30)
    if way == "running":
        assert not await ledger.running(claim)
    else:
        assert await ledger.expire() == 0
    assert await state(ledger, "a") == (State.DONE, Outcome.ERROR)
    assert not await ledger.finish(claim, Outcome.OK, OK)


async def test_a_deadline_to_start_means_nothing_once_running(ledger: SqlLedger, clock: Clock) -> None:
    await ledger.submit(work("a"), APP, Terms(start_within_s=30))
    claim = await again(ledger)
    assert await ledger.running(claim)
    clock.turn(31)
    assert await ledger.expire() == 0
    assert (await ledger.heartbeat("one", 60, [LogBatch(claim)])).held == {"a": 1}
    assert await ledger.finish(claim, Outcome.OK, OK)


async def test_a_deadline_to_start_includes_retries(ledger: SqlLedger, clock: Clock) -> None:
    await ledger.submit(work("a"), APP, Terms(start_within_s=30))
    claim = await again(ledger)
    assert await ledger.running(claim)
    clock.turn(31)
    assert await ledger.retry(claim, FAULT) is ReleaseOutcome.ENDED
    assert (await answer(ledger, "a")).error_type == "request_timeout"


async def test_a_cancellation_goes_before_a_deadline(ledger: SqlLedger, clock: Clock) -> None:
    await ledger.submit(work("a"), APP, Terms(start_within_s=30))
    claim = await again(ledger)
    assert await ledger.cancel("a", APP) is CancelAnswer.REQUESTED
    clock.turn(31)
    await ledger.expire()
    assert await state(ledger, "a") == (State.CLAIMED, None)
    assert await ledger.finish(claim, Outcome.CANCELLED, OK)


async def test_the_time_of_a_run_is_that_of_its_last_attempt(ledger: SqlLedger, clock: Clock) -> None:
    claim = await claimed(ledger, "a")
    await ledger.running(claim)
    clock.turn(10)
    await ledger.retry(claim, FAULT)
    claim = await again(ledger)
    assert await ledger.running(claim)
    clock.turn(3)
    assert await ledger.running(claim)
    await ledger.finish(claim, Outcome.OK, OK)
    record = await ledger.history.show("a")
    assert record is not None
    entry = record.entry
    assert entry.started_at is not None
    assert entry.finished_at is not None
    assert entry.finished_at - entry.started_at == timedelta(seconds=3)
    assert entry.attempts == 2
