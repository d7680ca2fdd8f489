"""The ledger is held to what the operator allows."""

from time import monotonic

import pytest

from gateway.ledger.models import ReleaseOutcome, Terms, TooMany
from gateway.ledger.opening import open_ledger
from gateway.ledger.store import SqlLedger
from gateway.settings import GatewaySettings
from tests.gateway.ledger.works import APP, FAULT, position, work


async def test_settings_bound_what_waits_and_what_is_tried_again(settings: GatewaySettings) -> None:
    few = settings.model_copy(update={"max_waiting": 2, "max_retries": 1, "max_crashes": 1})
    ledger = await open_ledger(few)
    try:
        for name in "ab":
            await ledger.submit(work(name), APP)
        with pytest.raises(TooMany):
            await ledger.submit(work("c"), APP)
        a, b = await ledger.claim("one", 2, 60)
        assert await ledger.retry(a, FAULT, crashed=True) is ReleaseOutcome.ENDED
        assert await ledger.retry(b, FAULT) is ReleaseOutcome.QUEUED
        (b,) = await ledger.claim("one", 2, 60)
        assert await ledger.retry(b, FAULT) is ReleaseOutcome.ENDED
    finally:
        await ledger.close()


async def test_a_service_tells_positions_by_an_order_that_is_a_moment_old(settings: GatewaySettings) -> None:
    ledger = await open_ledger(settings)
    other = await SqlLedger.open(settings.ledger_address)
    try:
        await other.submit(work("first"), APP, Terms("k1"))
        assert (await ledger.submit(work("a"), APP, Terms("k1"))).position == 1
        ledger._positions._begun_at = monotonic()  # as if it had been read just now
        await other.cancel("first", APP)
        assert await position(ledger, "a") == 1
        ledger._positions._begun_at -= ledger._positions._lasts_s
        assert await position(ledger, "a") == 0
    finally:
        await ledger.close()
        await other.close()
