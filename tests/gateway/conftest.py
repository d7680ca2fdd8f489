"""A real ledger and a real files store in a fresh folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.ledger.store import SqlLedger
from gateway.settings import GatewaySettings


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(
        data_dir=tmp_path,
        lease_s=5,
        tick_s=0.02,
        beat_s=0.05,
        stop_grace_s=0.3,
        run_timeout_s=10,
        allowed_hosts=("testserver", "other"),
        cors_origins=("https://app.example",),
    )


@pytest.fixture
async def ledger(settings: GatewaySettings) -> AsyncIterator[SqlLedger]:
    opened = await SqlLedger.open(settings.ledger_address)
    yield opened
    await opened.close()
