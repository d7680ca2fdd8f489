"""The promises of `gateway.ledger.models.Ledger`, kept by the ledger on each database."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from sqlalchemy import update

from gateway.errors import PlatformError
from gateway.ledger.models import Answer, CancelAnswer, Claim, LogBatch, Outcome, State
from gateway.ledger.store import SqlLedger
from gateway.ledger.tables import request
from tests.gateway.ledger.works import APP, OK, Clock, claimed, position, state, work


async def test_a_request_goes_from_submit_to_its_answer(ledger: SqlLedger, clock: Clock) -> None:
    assert (await ledger.submit(work("a"), APP)).position == 0
    assert await ledger.depth() == 1
    (claim,) = await ledger.claim("one", 5, 60)
    assert claim == Claim(work("a"), "one", 1)
    assert await ledger.depth() == 0
    assert await state(ledger, "a") == (State.CLAIMED, None)
    assert await ledger.running(claim)
    clock.turn(2.5)
    assert await state(ledger, "a") == (State.RUNNING, None)
    assert await ledger.answer("a", APP) is None
    assert await ledger.finish(claim, Outcome.OK, OK)
    assert await state(ledger, "a") == (State.DONE, Outcome.OK)
    assert await ledger.answer("a", APP) == OK
    status = await ledger.status("a", APP)
    assert status is not None
    assert status.inference_seconds == 2.5


async def test_the_oldest_are_claimed_first_and_only_as_many_as_asked(ledger: SqlLedger) -> None:
    for name in "abcd":
        await ledger.submit(work(name), APP)
    assert [claim.work.request_id for claim in await ledger.claim("one", 3, 60)] == ["a", "b", "c"]
    assert [claim.work.request_id for claim in await ledger.claim("two", 3, 60)] == ["d"]
    assert await ledger.claim("two", 3, 60) == []


async def test_the_position_counts_unbegun_requests_of_the_same_app_ahead(ledger: SqlLedger) -> None:
    assert (await ledger.submit(work("a"), APP)).position == 0
    assert (await ledger.submit(work("other"), "fal-ai/another")).position == 0
    assert (await ledger.submit(work("b"), APP)).position == 1
    assert (await ledger.submit(work("c"), APP)).position == 2

    assert [await position(ledger, name) for name in "abc"] == [0, 1, 2]
    (first,) = await ledger.claim("one", 1, 60)
    assert [await position(ledger, name) for name in "abc"] == [0, 1, 2]
    await ledger.running(first)
    assert [await position(ledger, name) for name in "abc"] == [None, 0, 1]
    await ledger.cancel("b", APP)
    assert [await position(ledger, name) for name in "abc"] == [None, None, 0]


async def test_a_request_is_unknown_under_another_app(ledger: SqlLedger) -> None:
    claim = await claimed(ledger, "a")
    await ledger.finish(claim, Outcome.OK, OK)
    assert await ledger.status("a", "fal-ai/another") is None
    assert await ledger.answer("a", "fal-ai/another") is None
    assert await ledger.cancel("a", "fal-ai/another") is CancelAnswer.UNKNOWN


async def test_a_requeued_request_keeps_its_place_and_fences_its_former_holder_out(ledger: SqlLedger) -> None:
    first = await claimed(ledger, "a")
    await ledger.running(first)
    await ledger.submit(work("b"), APP)
    assert await ledger.requeue(first)
    again, _ = await ledger.claim("one", 2, 60)
    assert again == Claim(work("a"), "one", 2)
    assert not await ledger.running(first)
    assert not await ledger.requeue(first)
    assert not await ledger.finish(first, Outcome.OK, OK)
    assert not await ledger.finish(replace(again, owner="two"), Outcome.OK, OK)
    await ledger.log(first, [("INFO", "a ghost")])
    assert await ledger.logs("a") == []
    assert await state(ledger, "a") == (State.CLAIMED, None)
    assert await ledger.finish(again, Outcome.OK, OK)


async def test_a_lease_that_ran_out_requeues_and_a_heartbeat_prevents_it(ledger: SqlLedger) -> None:
    lost = await claimed(ledger, "lost", owner="dead", lease_s=-1)
    kept = await claimed(ledger, "kept", owner="alive", lease_s=-1)
    await ledger.heartbeat("alive", 60, [LogBatch(kept)])
    assert await ledger.expire() == 1
    assert await state(ledger, "lost") == (State.QUEUED, None)
    assert await ledger.finish(kept, Outcome.OK, OK)
    assert not await ledger.finish(lost, Outcome.OK, OK)
    (again,) = await ledger.claim("alive", 5, 60)
    assert (again.work.request_id, again.attempt) == ("lost", 2)


async def test_a_queued_request_that_is_cancelled_never_runs(ledger: SqlLedger) -> None:
    await ledger.submit(work("a"), APP)
    assert await ledger.cancel("a", APP) is CancelAnswer.REMOVED
    assert await ledger.claim("one", 1, 60) == []
    assert await state(ledger, "a") == (State.DONE, Outcome.CANCELLED)
    expected = PlatformError("client_cancelled", "Request was cancelled by the client")
    answer = await ledger.answer("a", APP)
    assert answer == Answer(499, expected.body(), expected.headers(), expected.detail, "client_cancelled")
    assert await ledger.cancel("a", APP) is CancelAnswer.ALREADY_DONE


async def test_the_owner_of_a_held_request_hears_of_its_cancellation(ledger: SqlLedger) -> None:
    a, b = [await claimed(ledger, name) for name in "ab"]
    assert not (await ledger.heartbeat("one", 60, [LogBatch(a), LogBatch(b)])).cancelled
    assert await ledger.cancel("a", APP) is CancelAnswer.REQUESTED
    assert (await ledger.heartbeat("one", 60, [LogBatch(a), LogBatch(b)])).cancelled == {"a"}
    assert not (await ledger.heartbeat("two", 60, [LogBatch(a)])).cancelled
    assert await ledger.finish(a, Outcome.CANCELLED, OK)
    assert not (await ledger.heartbeat("one", 60, [LogBatch(a), LogBatch(b)])).cancelled


@pytest.mark.parametrize("way", ["requeue", "expire"])
async def test_a_cancelled_request_whose_owner_lets_go_ends_cancelled(ledger: SqlLedger, way: str) -> None:
    claim = await claimed(ledger, "a", lease_s=-1)
    await ledger.cancel("a", APP)
    if way == "requeue":
        assert await ledger.requeue(claim)
    else:
        assert await ledger.expire() == 0
    assert await state(ledger, "a") == (State.DONE, Outcome.CANCELLED)
    answer = await ledger.answer("a", APP)
    assert answer is not None
    assert answer.status == 499


async def test_log_lines_are_numbered_through_attempts_and_read_from_a_place(ledger: SqlLedger, clock: Clock) -> None:
    first = await claimed(ledger, "a")
    await ledger.log(first, [("INFO", "one"), ("WARN", "two")])
    await ledger.requeue(first)
    (second,) = await ledger.claim("one", 1, 60)
    clock.turn(1)
    await ledger.log(second, [("INFO", "three")])
    entries = await ledger.logs("a")
    assert [(e.number, e.level, e.message) for e in entries] == [
        (1, "INFO", "one"),
        (2, "WARN", "two"),
        (3, "INFO", "three"),
    ]
    assert [clock.now - e.at for e in entries] == [timedelta(seconds=1), timedelta(seconds=1), timedelta(0)]
    assert [e.number for e in await ledger.logs("a", after=2)] == [3]


async def test_an_unreadable_work_ends_in_an_error_and_does_not_stop_the_queue(ledger: SqlLedger) -> None:
    await ledger.submit(work("old"), APP)
    await ledger.submit(work("new"), APP)
    foreign = update(request).where(request.c.id == "old").values(work='{"from": "elsewhere"}')
    await ledger.database.write(lambda connection: connection.execute(foreign))
    assert [claim.work.request_id for claim in await ledger.claim("one", 5, 60)] == ["new"]
    assert await state(ledger, "old") == (State.DONE, Outcome.ERROR)


async def test_what_is_accepted_survives_the_process(url: str) -> None:
    ledger = await SqlLedger.open(url)
    await ledger.submit(work("a"), APP)
    await ledger.close()
    ledger = await SqlLedger.open(url)
    assert await ledger.depth() == 1
    await ledger.close()


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_each_request_ends_once(ledger: SqlLedger, seed: int) -> None:
    """Two owners, leases that run out, cancellations and requeues in a random order: one terminal state, never left."""
    random = Random(seed)
    names = [f"r{i}" for i in range(5)]
    for name in names:
        await ledger.submit(work(name), APP)
    claims: list[Claim] = []
    ends: dict[str, int] = dict.fromkeys(names, 0)
    answers: dict[str, Answer] = {}

    async def step() -> None:
        action = random.choice(["claim", "running", "finish", "finish", "requeue", "expire", "cancel"])
        if action == "claim":
            claims.extend(await ledger.claim(random.choice(["one", "two"]), 2, random.choice([-1, 60])))
        elif action == "expire":
            await ledger.expire()
        elif action == "cancel":
            name = random.choice(names)
            ends[name] += await ledger.cancel(name, APP) is CancelAnswer.REMOVED
        elif claims:
            claim = random.choice(claims)
            if action == "finish":
                answer = Answer(200, {"by": [claim.owner, claim.attempt]})
                ends[claim.work.request_id] += await ledger.finish(claim, Outcome.OK, answer)
            else:
                await (ledger.running(claim) if action == "running" else ledger.requeue(claim))

    for _ in range(60):
        await step()
        for name in names:
            answer = await ledger.answer(name, APP)
            if answer is not None:
                assert answers.setdefault(name, answer) == answer
    for name in names:
        ended = (await state(ledger, name))[0] is State.DONE
        assert ends[name] <= 1
        assert ended == (name in answers)
    held = [c for c in claims if (await state(ledger, c.work.request_id))[0] is not State.DONE]
    finished = [c.work.request_id for c in held if await ledger.finish(c, Outcome.OK, OK)]
    assert len(finished) == len(set(finished))


async def test_two_finishes_at_once_write_one_answer(ledger: SqlLedger) -> None:
    claim = await claimed(ledger, "a")
    wins = await asyncio.gather(*(ledger.finish(claim, Outcome.OK, Answer(200, i)) for i in range(8)))
    assert sum(wins) == 1
    answer = await ledger.answer("a", APP)
    assert answer is not None
    assert answer.body == wins.index(True)


async def test_many_statuses_are_one_question(ledger: SqlLedger) -> None:
    names = [f"r{number}" for number in range(1200)]  # more than fit into a statement
    for name in names[:3]:
        await ledger.submit(work(name), APP)
    (claim,) = await ledger.claim("one", 1, 60)
    await ledger.running(claim)
    await ledger.log(claim, [("INFO", "one"), ("INFO", "two")])
    await ledger.submit(work("other", "fal-ai/fooocus/inpaint"), APP)
    found = await ledger.statuses([*names, "other"])
    assert set(found) == {*names[:3], "other"}
    for name in found:
        assert found[name] == await ledger.status(name, APP)
    assert (found["r0"].state, found["r0"].lines, found["other"].position) == (State.RUNNING, 2, 2)
    assert await ledger.statuses([]) == {}


async def test_words_that_a_database_does_not_take_do_not_stop_a_request(ledger: SqlLedger) -> None:
    claim = await claimed(ledger, "a")
    await ledger.log(claim, [("ERROR", "a\0b")])
    error = "half of a character: \ud800, and \0"
    assert await ledger.finish(claim, Outcome.ERROR, Answer(422, {"detail": error}, error=error, error_type="x"))
    assert [entry.message for entry in await ledger.logs("a")] == ["a\N{REPLACEMENT CHARACTER}b"]
    assert (await state(ledger, "a"))[1] is Outcome.ERROR


async def test_a_claim_says_how_long_its_request_has_been_waiting(ledger: SqlLedger, clock: Clock) -> None:
    await ledger.submit(work("a"), APP)
    clock.turn(7.5)
    (claim,) = await ledger.claim("one", 1, 60)
    assert claim.queued_s == 7.5
    assert await ledger.requeue(claim)
    clock.turn(1)
    (again,) = await ledger.claim("one", 1, 60)
    assert again.queued_s == 8.5  # with what the attempt cost
