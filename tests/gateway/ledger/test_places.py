"""A submission that is given a free place begins at once where nothing waits, and is held as after a claim."""

import asyncio

import pytest
from sqlalchemy import text

from gateway.ledger.database import CLAIMING, take_lock
from gateway.ledger.models import AtOnce, Claim, Idempotency, LogBatch, Outcome, Place, State, Terms, TooMany
from gateway.ledger.store import SqlLedger
from tests.gateway.fakes import until
from tests.gateway.ledger.works import APP, OK, Clock, engine_of, position, state, work

HERE = Place("here", 10)
ROUNDS = 20


async def take_place(ledger: SqlLedger, name: str, terms: Terms | None = None, place: Place = HERE) -> Claim | None:
    return (await ledger.submit(work(name), APP, terms or Terms(), place)).claim


async def test_where_nothing_waits_it_is_born_running(ledger: SqlLedger) -> None:
    accepted = await ledger.submit(work("a"), APP, Terms(), HERE)
    assert (accepted.request_id, accepted.position) == ("a", 0)
    assert accepted.claim == Claim(work("a"), "here", 1)
    assert await state(ledger, "a") == (State.RUNNING, None)
    assert not await ledger.waits()
    assert await ledger.claim("other", 9, 60) == []
    assert await ledger.finish(accepted.claim, Outcome.OK, OK)
    assert await ledger.answer("a", APP) == OK


async def test_what_was_born_running_has_the_time_since_as_its_own(ledger: SqlLedger, clock: Clock) -> None:
    claim = await take_place(ledger, "a")
    assert claim is not None
    clock.turn(3)
    await ledger.finish(claim, Outcome.OK, OK)
    status = await ledger.status("a", APP)
    assert status is not None
    assert status.inference_seconds == 3.0


async def test_where_anything_waits_it_waits_behind_it(ledger: SqlLedger) -> None:
    await ledger.submit(work("a"), "fal-ai/other")
    accepted = await ledger.submit(work("b"), APP, Terms(), HERE)
    assert accepted.claim is None
    assert await state(ledger, "b") == (State.QUEUED, None)
    claims = await ledger.claim("other", 9, 60)
    assert [claim.work.request_id for claim in claims] == ["a", "b"]
    assert await take_place(ledger, "c") is not None


async def test_one_with_a_deadline_to_start_has_not_started(ledger: SqlLedger, clock: Clock) -> None:
    terms = Terms(start_within_s=5)
    in_time, late = await take_place(ledger, "a", terms), await take_place(ledger, "b", terms)
    assert in_time is not None
    assert late is not None
    assert await state(ledger, "b") == (State.CLAIMED, None)
    assert (await position(ledger, "a"), await position(ledger, "b")) == (0, 1)
    assert await ledger.running(in_time)
    clock.turn(5)
    assert not await ledger.running(late)
    assert await state(ledger, "a") == (State.RUNNING, None)
    assert await state(ledger, "b") == (State.DONE, Outcome.ERROR)


async def test_its_lease_is_kept_by_its_owner_and_runs_out_without(ledger: SqlLedger, clock: Clock) -> None:
    kept, lost = await take_place(ledger, "kept"), await take_place(ledger, "lost", place=Place("gone", 10))
    assert kept is not None
    assert lost is not None
    clock.turn(9)
    assert (await ledger.heartbeat("here", 10, [LogBatch(kept)])).held == {"kept": 1}
    clock.turn(2)
    assert await ledger.expire() == 1
    (again,) = await ledger.claim("other", 9, 60)
    assert (again.work.request_id, again.attempt) == ("lost", 2)
    assert not await ledger.finish(lost, Outcome.OK, OK)


async def test_a_key_that_holds_all_it_may_waits(ledger: SqlLedger) -> None:
    place = Place("here", 10, AtOnce(default=1, of_key={"k2": 2}))
    taken = [
        await take_place(ledger, f"{key}{number}", Terms(key), place) for number in range(2) for key in ("k2", "k1")
    ]
    assert [claim and claim.work.request_id for claim in taken] == ["k20", "k10", "k21", None]


@pytest.mark.parametrize("at_once", [AtOnce(default=2), AtOnce(of_key={"k": 2})], ids=["default", "of_key"])
async def test_submissions_and_claims_at_once_hold_no_more_of_a_key_than_it_may_have(
    url: str, clock: Clock, at_once: AtOnce
) -> None:
    ledgers = [await SqlLedger.open(url, clock) for _ in range(2)]
    for number in range(ROUNDS):
        place = Place(f"o{number}", 60, at_once)
        submissions = (
            take_place(ledger, f"{number}-{at}", Terms("k"), place) for at, ledger in enumerate([*ledgers, *ledgers])
        )
        both = await asyncio.gather(*submissions, *(ledger.claim("c", 9, 60, at_once) for ledger in ledgers))
        held = [
            entry for entry in (await ledgers[0].history.list(limit=9)).entries if entry.state in ("claimed", "running")
        ]
        assert len(held) <= 2
        assert sum(1 for found in both if isinstance(found, Claim)) <= 2
        for entry in (await ledgers[0].history.list(limit=9)).entries:
            await ledgers[0].cancel(entry.request_id, APP)
        clock.turn(61)
        await ledgers[0].expire()
    for ledger in ledgers:
        await ledger.close()


async def test_whoever_takes_a_place_within_limits_waits_for_those_who_claim(postgresql_url: str, clock: Clock) -> None:
    """What they have counted stays true until their claims are counted too."""
    ledger = await SqlLedger.open(postgresql_url, clock)
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    engine = engine_of(postgresql_url)
    with engine.connect() as other:
        take_lock(other, CLAIMING)
        assert await take_place(ledger, "a") is not None  # without limits nothing is counted
        taking = asyncio.create_task(take_place(ledger, "b", Terms("k"), Place("here", 60, AtOnce(default=1))))

        async def waits() -> bool:
            assert not taking.done()
            return bool(other.execute(waiting).scalar_one())

        await until(waits)
        other.rollback()
    assert await taking is not None
    engine.dispose()
    await ledger.close()


async def test_its_key_has_had_its_turn(ledger: SqlLedger) -> None:
    assert await take_place(ledger, "a1", Terms("a")) is not None
    await ledger.submit(work("a2"), APP, Terms("a"))
    await ledger.submit(work("a3"), APP, Terms("a"))
    await ledger.submit(work("b1"), APP, Terms("b"))
    claims = await ledger.claim("one", 9, 60)
    assert [claim.work.request_id for claim in claims] == ["b1", "a2", "a3"]


async def test_a_repeated_submission_takes_no_place(ledger: SqlLedger) -> None:
    terms = Terms(idempotency=Idempotency("mine", "body"))
    assert await take_place(ledger, "a", terms) is not None
    again = await ledger.submit(work("b"), APP, terms, HERE)
    assert (again.request_id, again.repeated, again.claim) == ("a", True, None)


async def test_the_limit_of_open_calls_counts_it(ledger: SqlLedger) -> None:
    terms = Terms("k", listener="me", max_open=2)
    for name in "ab":
        assert await take_place(ledger, name, terms) is not None
    with pytest.raises(TooMany):
        await take_place(ledger, "c", terms)
