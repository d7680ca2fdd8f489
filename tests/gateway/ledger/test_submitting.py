"""Accepting requests: idempotency keys, full queues, and requests that belong to their key."""

import asyncio

import pytest

from gateway.ledger.models import (
    CancelAnswer,
    Idempotency,
    IdempotencyConflict,
    Limits,
    Outcome,
    State,
    Terms,
    TooMany,
)
from gateway.ledger.store import SqlLedger
from tests.gateway.ledger.works import APP, OK, Clock, claimed, state, work

INPAINT = "fal-ai/fooocus/inpaint"


def once(name: str, body: str = "body", key: str = "") -> Terms:
    return Terms(key=key, idempotency=Idempotency(name, body))


async def test_a_repeated_submission_is_the_first_one(ledger: SqlLedger) -> None:
    await ledger.submit(work("before"), APP)
    first = await ledger.submit(work("a"), APP, once("mine"))
    again = await ledger.submit(work("b"), APP, once("mine"))
    assert (first.request_id, first.position, first.repeated) == ("a", 1, False)
    assert (again.request_id, again.position, again.repeated) == ("a", 1, True)
    assert await ledger.depth() == 2
    assert await ledger.status("b", APP) is None


async def test_a_repeated_submission_is_known_when_it_is_done(ledger: SqlLedger) -> None:
    await ledger.submit(work("a"), APP, once("mine"))
    (claim,) = await ledger.claim("one", 1, 60)
    await ledger.finish(claim, Outcome.OK, OK)
    again = await ledger.submit(work("b"), APP, once("mine"))
    assert (again.request_id, again.position, again.repeated) == ("a", 0, True)


async def test_an_idempotency_key_with_another_body_is_a_conflict(ledger: SqlLedger) -> None:
    await ledger.submit(work("a"), APP, once("mine", "this"))
    with pytest.raises(IdempotencyConflict) as conflict:
        await ledger.submit(work("b"), APP, once("mine", "that"))
    assert conflict.value.status == 422
    assert await ledger.depth() == 1


async def test_an_idempotency_key_counts_for_its_key_and_endpoint_alone(ledger: SqlLedger) -> None:
    accepted = [
        await ledger.submit(work("a"), APP, once("mine")),
        await ledger.submit(work("b"), APP, once("mine", "other", key="k1")),
        await ledger.submit(work("c", INPAINT), APP, once("mine", "other")),
        await ledger.submit(work("d"), APP),
        await ledger.submit(work("e"), APP),
    ]
    assert [one.request_id for one in accepted] == list("abcde")


async def test_submissions_at_once_with_one_idempotency_key_are_one_request(url: str) -> None:
    ledgers = [await SqlLedger.open(url) for _ in range(2)]
    submissions = (
        ledger.submit(work(f"{n}{i}"), APP, once("mine")) for i in range(5) for n, ledger in enumerate(ledgers)
    )
    accepted = await asyncio.gather(*submissions)
    assert len({one.request_id for one in accepted}) == 1
    assert sum(not one.repeated for one in accepted) == 1
    assert await ledgers[0].depth() == 1
    for ledger in ledgers:
        await ledger.close()


async def test_a_client_that_would_not_wait_behind_so_many_is_refused(ledger: SqlLedger) -> None:
    await ledger.submit(work("a"), APP, Terms(max_ahead=0))
    with pytest.raises(TooMany) as full:
        await ledger.submit(work("b"), APP, Terms(max_ahead=0))
    assert (full.value.status, full.value.error_type) == (429, "concurrent_requests_limit")
    assert full.value.headers()["x-fal-needs-retry"] == "1"
    await ledger.submit(work("b"), APP, Terms(max_ahead=1))
    await ledger.claim("one", 2, 60)
    await ledger.submit(work("c"), APP, Terms(max_ahead=0))


async def test_a_full_service_refuses_and_still_knows_a_repeated_submission(url: str, clock: Clock) -> None:
    ledger = await SqlLedger.open(url, clock, Limits(waiting=2))
    await ledger.submit(work("a"), APP, once("mine"))
    await ledger.submit(work("b"), APP)
    with pytest.raises(TooMany):
        await ledger.submit(work("c"), APP)
    assert (await ledger.submit(work("d"), APP, once("mine"))).repeated
    assert await ledger.depth() == 2
    await ledger.claim("one", 1, 60)
    await ledger.submit(work("c"), APP)
    await ledger.close()


async def test_submissions_at_once_do_not_pass_the_cap_together(url: str, clock: Clock) -> None:
    ledgers = [await SqlLedger.open(url, clock, Limits(waiting=3)) for _ in range(2)]
    submissions = (ledger.submit(work(f"{n}{i}"), APP) for i in range(5) for n, ledger in enumerate(ledgers))
    results = await asyncio.gather(*submissions, return_exceptions=True)
    assert sum(isinstance(result, TooMany) for result in results) == 7
    assert await ledgers[0].depth() == 3
    for ledger in ledgers:
        await ledger.close()


async def test_a_key_may_have_so_many_waiting_and_others_do_not_suffer(ledger: SqlLedger) -> None:
    for name in "ab":
        await ledger.submit(work(name), APP, Terms(key="k1", max_of_key=2))
    with pytest.raises(TooMany):
        await ledger.submit(work("c"), APP, Terms(key="k1", max_of_key=2))
    await ledger.submit(work("d"), APP, Terms(key="k2", max_of_key=2))
    await ledger.claim("one", 1, 60)
    await ledger.submit(work("c"), APP, Terms(key="k1", max_of_key=2))


async def test_another_keys_request_is_unknown(ledger: SqlLedger) -> None:
    await ledger.submit(work("a"), APP, Terms(key="k1"))
    assert await ledger.status("a", APP, "k2") is None
    assert await ledger.cancel("a", APP, "k2") is CancelAnswer.UNKNOWN
    assert await state(ledger, "a") == (State.QUEUED, None)
    (claim,) = await ledger.claim("one", 1, 60)
    await ledger.finish(claim, Outcome.OK, OK)
    assert await ledger.answer("a", APP, "k2") is None
    assert await ledger.answer("a", APP, "k1") == OK
    status = await ledger.status("a", APP, "k1")
    assert status is not None
    assert status.state is State.DONE
    assert await ledger.cancel("a", APP, "k1") is CancelAnswer.ALREADY_DONE


async def test_a_failed_submission_leaves_no_trace_in_the_order(ledger: SqlLedger) -> None:
    """A refusal must not use up a turn of its key."""
    held = await claimed(ledger, "a")
    for _ in range(3):
        with pytest.raises(TooMany):
            await ledger.submit(work("b"), APP, Terms(key="k1", max_of_key=0))
    await ledger.submit(work("c"), APP, Terms(key="k1"))
    await ledger.submit(work("d"), APP, Terms(key="k2"))
    assert [one.work.request_id for one in await ledger.claim("one", 5, 60)] == ["c", "d"]
    assert await ledger.finish(held, Outcome.OK, OK)
