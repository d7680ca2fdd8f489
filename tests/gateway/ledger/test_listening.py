"""Sync runs: requests in the queue like all others, which end when nobody waits for them any more."""

import asyncio

import pytest
from sqlalchemy import update

from gateway.ledger.models import Answer, Claim, Limits, LogBatch, Outcome, ReleaseOutcome, State, Terms, TooMany
from gateway.ledger.store import SqlLedger
from gateway.ledger.tables import request
from gateway.ledger.transitions import left_answer
from tests.gateway.ledger.works import APP, FAULT, OK, Clock, position, state, work

HOOK = "https://example.com/hook"
LEFT = left_answer()
CANCELLED = State.DONE, Outcome.CANCELLED


async def run(ledger: SqlLedger, name: str, listener: str = "here", listen_s: float = 30, key: str = "") -> None:
    await ledger.submit(work(name), APP, Terms(key=key, listener=listener, listen_s=listen_s))


async def held(ledger: SqlLedger, *, running: bool = False) -> Claim:
    (claim,) = await ledger.claim("one", 1, 600)
    if running:
        assert await ledger.running(claim)
    return claim


async def test_a_sync_run_takes_its_turn(ledger: SqlLedger) -> None:
    await ledger.submit(work("a"), APP, Terms(key="k1"))
    await ledger.submit(work("b"), APP, Terms(key="k1"))
    await run(ledger, "run", key="k2")
    assert await position(ledger, "run") == 1
    assert [claim.work.request_id for claim in await ledger.claim("one", 9, 60)] == ["a", "run", "b"]


async def test_listening_keeps_what_a_listener_has_and_nothing_else(ledger: SqlLedger, clock: Clock) -> None:
    for name in ("mine", "also-mine"):
        await run(ledger, name, "here")
    await run(ledger, "another's", "there")
    await run(ledger, "no-longer", "here")
    clock.turn(20)
    await ledger.listen("here", 30, ["mine", "also-mine", "another's"])
    clock.turn(11)
    assert await ledger.expire() == 0
    assert await state(ledger, "no-longer") == CANCELLED
    assert await state(ledger, "mine") == (State.QUEUED, None)
    assert await state(ledger, "also-mine") == (State.QUEUED, None)
    assert await state(ledger, "another's") == CANCELLED
    clock.turn(20)
    await ledger.expire()
    assert await state(ledger, "mine") == CANCELLED


@pytest.mark.parametrize("reached", [State.QUEUED, State.CLAIMED, State.RUNNING])
async def test_silence_ends_a_run_wherever_it_is(ledger: SqlLedger, clock: Clock, reached: State) -> None:
    await run(ledger, "a")
    claim = None if reached is State.QUEUED else await held(ledger, running=reached is State.RUNNING)
    clock.turn(31)
    assert await ledger.expire() == 0
    assert await state(ledger, "a") == CANCELLED
    answer = await ledger.answer("a", APP)
    assert answer is not None
    assert (answer.status, answer.error_type) == (499, "client_disconnected")
    if claim is not None:
        assert (await ledger.heartbeat("one", 60, [LogBatch(claim)])).held == {}
        assert not await ledger.finish(claim, Outcome.OK, OK)
    assert await ledger.claim("one", 9, 60) == []


async def test_a_request_without_a_listener_needs_none(ledger: SqlLedger, clock: Clock) -> None:
    await ledger.submit(work("a"), APP)
    clock.turn(10**6)
    assert await ledger.expire() == 0
    assert await state(ledger, "a") == (State.QUEUED, None)


async def test_listening_says_nothing_about_what_has_ended(ledger: SqlLedger, clock: Clock) -> None:
    await run(ledger, "a")
    await ledger.finish(await held(ledger), Outcome.OK, OK)
    await ledger.listen("here", 30, ["a"])
    clock.turn(31)
    await ledger.expire()
    assert await ledger.answer("a", APP) == OK


@pytest.mark.parametrize("reached", [State.QUEUED, State.CLAIMED, State.RUNNING])
async def test_a_listener_abandons_a_run_whoever_holds_it(ledger: SqlLedger, reached: State) -> None:
    await run(ledger, "a")
    claim = None if reached is State.QUEUED else await held(ledger, running=reached is State.RUNNING)
    assert await ledger.abandon("a", "here", Outcome.CANCELLED, LEFT)
    assert await state(ledger, "a") == CANCELLED
    assert await ledger.answer("a", APP) == LEFT
    if claim is not None:
        assert not await ledger.running(claim)
        assert not await ledger.finish(claim, Outcome.OK, OK)
        assert await ledger.retry(claim, FAULT) is ReleaseOutcome.LOST
    assert await ledger.answer("a", APP) == LEFT
    assert not await ledger.abandon("a", "here", Outcome.ERROR, FAULT)


async def test_nobody_abandons_anothers_run(ledger: SqlLedger) -> None:
    await run(ledger, "a", "here")
    await ledger.submit(work("b"), APP)
    assert not await ledger.abandon("a", "there", Outcome.CANCELLED, LEFT)
    assert not await ledger.abandon("b", "here", Outcome.CANCELLED, LEFT)
    assert not await ledger.abandon("unknown", "here", Outcome.CANCELLED, LEFT)
    assert [await state(ledger, name) for name in "ab"] == [(State.QUEUED, None)] * 2


@pytest.mark.parametrize("begun", [True, False])
async def test_one_that_has_begun_is_left_alone_where_that_is_asked(ledger: SqlLedger, begun: bool) -> None:
    late = Answer(504, "late", error_type="request_timeout")
    await run(ledger, "waiting")
    claim = await held(ledger)
    await run(ledger, "begun")
    await held(ledger, running=True)
    assert await ledger.abandon("waiting", "here", Outcome.ERROR, late, begun=begun)
    assert await ledger.abandon("begun", "here", Outcome.ERROR, late, begun=begun) is begun
    assert (await state(ledger, "begun"))[0] is (State.DONE if begun else State.RUNNING)
    assert not await ledger.running(claim)


async def test_an_end_and_an_abandonment_at_once_are_one_end(ledger: SqlLedger) -> None:
    for number in range(20):
        await run(ledger, f"r{number}")
        claim = await held(ledger, running=True)
        finished, left = await asyncio.gather(
            ledger.finish(claim, Outcome.OK, OK), ledger.abandon(f"r{number}", "here", Outcome.CANCELLED, LEFT)
        )
        assert finished != left
        assert await ledger.answer(f"r{number}", APP) == (OK if finished else LEFT)


async def test_an_abandoned_run_owes_its_webhook_and_names_its_files(ledger: SqlLedger) -> None:
    await ledger.submit(work("a"), APP, Terms(listener="here", webhook=HOOK, media=["inputs/a.png"]))
    await ledger.abandon("a", "here", Outcome.CANCELLED, LEFT)
    (delivery,) = await ledger.outbox.claim("sender", 9, 60)
    assert (delivery.request_id, delivery.url, delivery.answer) == ("a", HOOK, LEFT)
    assert await ledger.history.delete("a") == ["inputs/a.png"]


async def test_a_key_may_have_so_many_calls_open_and_only_they_count(ledger: SqlLedger) -> None:
    terms = Terms(key="k1", listener="here", max_open=2)
    await ledger.submit(work("no-call"), APP, Terms(key="k1", max_open=0))
    for name in ("a", "b"):
        await ledger.submit(work(name), APP, terms)
    await ledger.claim("one", 2, 60)
    with pytest.raises(TooMany) as full:
        await ledger.submit(work("c"), APP, terms)
    assert full.value.status == 429
    await ledger.submit(work("another-key"), APP, Terms(key="k2", listener="here", max_open=1))
    await ledger.submit(work("queued"), APP, Terms(key="k1", max_open=1))
    await ledger.abandon("a", "here", Outcome.CANCELLED, LEFT)
    await ledger.submit(work("c"), APP, terms)


async def test_calls_at_once_are_no_more_than_the_key_may_have(url: str) -> None:
    ledgers = [await SqlLedger.open(url) for _ in range(2)]
    terms = Terms(key="k1", listener="here", max_open=3)
    calls = (ledger.submit(work(f"{n}{at}"), APP, terms) for at in range(5) for n, ledger in enumerate(ledgers))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, TooMany) for result in results) == 7
    for ledger in ledgers:
        await ledger.close()


async def test_a_run_whose_owner_is_lost_waits_again_as_long_as_its_listener_is_there(
    ledger: SqlLedger, clock: Clock
) -> None:
    await run(ledger, "a")
    await ledger.claim("lost", 1, 5)
    clock.turn(6)
    await ledger.listen("here", 30, ["a"])
    assert await ledger.expire() == 1
    assert (await held(ledger)).attempt == 2


async def test_a_fault_of_a_run_that_nobody_waits_for_ends_it(ledger: SqlLedger, clock: Clock) -> None:
    await run(ledger, "a")
    claim = await held(ledger)
    clock.turn(31)
    assert await ledger.retry(claim, FAULT) is ReleaseOutcome.ENDED
    assert await ledger.answer("a", APP) == LEFT


@pytest.mark.parametrize("way", ["expire", "retry"])
async def test_a_run_of_the_former_version_ends_with_the_fault_of_its_owner(url: str, clock: Clock, way: str) -> None:
    """It was born claimed by the gateway that held its call, and nobody else can answer that."""
    ledger = await SqlLedger.open(url, clock, Limits(retries=9))
    await ledger.submit(work("a"), APP)
    (claim,) = await ledger.claim("run:a", 1, 5)
    former = update(request).where(request.c.id == "a").values(sync=True)
    await ledger.database.write(lambda connection: connection.execute(former))
    if way == "expire":
        clock.turn(6)
        assert await ledger.expire() == 0
    else:
        assert await ledger.retry(claim, FAULT) is ReleaseOutcome.ENDED
    assert await state(ledger, "a") == (State.DONE, Outcome.ERROR)
    answer = await ledger.answer("a", APP)
    assert answer is not None
    assert (answer.status, answer.headers["x-fal-retryable"]) == (503, "true")
    assert answer.error_type == ("runner_disconnected" if way == "expire" else FAULT.error_type)
    assert await ledger.claim("one", 1, 60) == []
    await ledger.close()
