"""Webhooks that are owed: from the transaction that ends a request to the delivery, at least once."""

import pytest

from gateway.ledger.models import Limits, Outcome, Terms
from gateway.ledger.outbox import Delivery, DeliveryState
from gateway.ledger.store import SqlLedger
from tests.gateway.ledger.works import APP, OK, Clock, work

HOOK = "https://example.com/hook"


async def submitted(ledger: SqlLedger, name: str) -> None:
    await ledger.submit(work(name), APP, Terms(key="k1", webhook=HOOK))


async def owed(ledger: SqlLedger, name: str) -> None:
    await submitted(ledger, name)
    (claim,) = await ledger.claim("one", 1, 60)
    assert await ledger.finish(claim, Outcome.OK, OK)


async def due(ledger: SqlLedger, count: int = 9, owner: str = "sender") -> list[Delivery]:
    return list(await ledger.outbox.claim(owner, count, 20))


async def became(ledger: SqlLedger, name: str) -> tuple[DeliveryState, int]:
    sent = await ledger.outbox.of(name)
    assert sent is not None
    return sent.state, sent.attempts


async def test_a_webhook_is_owed_from_the_end_of_its_request(ledger: SqlLedger) -> None:
    await submitted(ledger, "a")
    (claim,) = await ledger.claim("one", 1, 60)
    assert await due(ledger) == []
    await ledger.finish(claim, Outcome.OK, OK)
    (delivery,) = await due(ledger)
    assert (delivery.request_id, delivery.key, delivery.endpoint, delivery.url) == ("a", "k1", APP, HOOK)
    assert (delivery.outcome, delivery.answer, delivery.attempt) == (Outcome.OK, OK, 1)
    assert await due(ledger) == []
    assert await ledger.outbox.delivered(delivery)
    assert await became(ledger, "a") == (DeliveryState.DELIVERED, 1)
    assert not await ledger.outbox.delivered(delivery)


async def test_a_request_without_an_address_owes_nothing(ledger: SqlLedger) -> None:
    await ledger.submit(work("a"), APP)
    (claim,) = await ledger.claim("one", 1, 60)
    await ledger.finish(claim, Outcome.OK, OK)
    assert await due(ledger) == []
    assert await ledger.outbox.of("a") is None


@pytest.mark.parametrize("way", ["cancelled", "late", "lost"])
async def test_every_end_owes_its_webhook(url: str, clock: Clock, way: str) -> None:
    ledger = await SqlLedger.open(url, clock, Limits(retries=0))
    await ledger.submit(work("a"), APP, Terms(webhook=HOOK, start_within_s=5 if way == "late" else None))
    if way == "cancelled":
        await ledger.cancel("a", APP)
    elif way == "lost":
        await ledger.claim("one", 1, 5)
    clock.turn(6)
    await ledger.expire()
    (delivery,) = await due(ledger)
    assert delivery.outcome is (Outcome.CANCELLED if way == "cancelled" else Outcome.ERROR)
    assert delivery.answer == await ledger.answer("a", APP)
    await ledger.close()


async def test_the_longest_due_are_sent_first_and_each_by_one_sender(ledger: SqlLedger, clock: Clock) -> None:
    for name in "abc":
        await owed(ledger, name)
        clock.turn(1)
    assert [one.request_id for one in await due(ledger, 2)] == ["a", "b"]
    assert [one.request_id for one in await due(ledger, 2, "another")] == ["c"]
    assert await due(ledger, 0) == []


async def test_a_failed_attempt_comes_again_at_its_time_and_the_last_one_gives_up(url: str, clock: Clock) -> None:
    ledger = await SqlLedger.open(url, clock, Limits(deliveries=3))
    await owed(ledger, "a")
    for attempt in (1, 2, 3):
        (delivery,) = await due(ledger)
        assert delivery.attempt == attempt
        assert await ledger.outbox.failed(delivery, "Status 500", 40) is (
            DeliveryState.WAITING if attempt < 3 else DeliveryState.ABANDONED
        )
        assert await due(ledger) == []
        clock.turn(39)
        assert await due(ledger) == []
        clock.turn(1)
    assert await due(ledger) == []
    sent = await ledger.outbox.of("a")
    assert sent is not None
    assert (sent.state, sent.attempts, sent.error) == (DeliveryState.ABANDONED, 3, "Status 500")
    await ledger.close()


async def test_a_lost_senders_delivery_is_sent_again_and_its_word_counts_no_more(url: str, clock: Clock) -> None:
    ledger = await SqlLedger.open(url, clock, Limits(deliveries=2))
    await owed(ledger, "a")
    (lost,) = await due(ledger)
    clock.turn(20)
    (second,) = await due(ledger)
    assert second.attempt == 2
    assert not await ledger.outbox.delivered(lost)
    assert await ledger.outbox.failed(lost, "timeout", 1) is None
    assert await became(ledger, "a") == (DeliveryState.WAITING, 2)
    clock.turn(20)
    assert await due(ledger) == []
    assert await became(ledger, "a") == (DeliveryState.ABANDONED, 2)
    assert not await ledger.outbox.delivered(second)
    await ledger.close()
