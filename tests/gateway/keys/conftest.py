"""Keys in a fresh database, by a clock that the test sets."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from gateway.keys.sql import SqlKeys
from gateway.ledger.database import Database
from gateway.settings import GatewaySettings


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, by: timedelta) -> None:
        self.now += by


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def keys(settings: GatewaySettings, clock: Clock) -> AsyncIterator[SqlKeys]:
    database = await Database.open(settings.ledger_address)
    yield SqlKeys(database, clock)
    await database.close()
