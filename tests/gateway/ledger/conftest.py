"""A ledger in a fresh file, and works to put into it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.ledger.sql import SqlLedger


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[SqlLedger]:
    opened = await SqlLedger.open(url)
    yield opened
    await opened.close()
