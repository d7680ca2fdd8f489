"""The ledger is held to what the operator allows."""

import pytest

from gateway.ledger.models import Retried, TooMany
from gateway.ledger.opening import open_ledger
from gateway.settings import GatewaySettings
from tests.gateway.ledger.works import APP, FAULT, work


async def test_settings_bound_what_waits_and_what_is_tried_again(settings: GatewaySettings) -> None:
    few = settings.model_copy(update={"max_waiting": 2, "max_retries": 1, "max_crashes": 1})
    ledger = await open_ledger(few)
    try:
        for name in "ab":
            await ledger.submit(work(name), APP)
        with pytest.raises(TooMany):
            await ledger.submit(work("c"), APP)
        a, b = await ledger.claim("one", 2, 60)
        assert await ledger.retry(a, FAULT, crashed=True) is Retried.ENDED
        assert await ledger.retry(b, FAULT) is Retried.QUEUED
        (b,) = await ledger.claim("one", 2, 60)
        assert await ledger.retry(b, FAULT) is Retried.ENDED
    finally:
        await ledger.close()
