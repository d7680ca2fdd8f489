"""The ledger that the settings name."""

from gateway.ledger.base import Limits
from gateway.ledger.sql import SqlLedger
from gateway.settings import GatewaySettings


async def open_ledger(settings: GatewaySettings) -> SqlLedger:
    """Open it, creating or migrating it where needed. Whoever opens it closes it."""
    limits = Limits(settings.max_waiting, settings.max_retries, settings.max_crashes)
    return await SqlLedger.open(settings.ledger_address, limits=limits, backups=settings.data_dir)
