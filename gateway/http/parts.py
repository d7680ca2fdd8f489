"""What the app is built from."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.files.base import Files
from gateway.keys.base import Keys
from gateway.ledger.base import Ledger
from gateway.ledger.history import SqlHistory
from gateway.settings import GatewaySettings
from gateway.work import Runner


async def _always() -> bool:
    return True


@dataclass(frozen=True)
class Parts:
    """The stores and the runner of one app.

    can_draw: whether the runner would take a work now; asked by `/ready`. keys: needed where settings require keys.
    history: of the ledger; without it there are no routes for it.
    """

    settings: GatewaySettings
    ledger: Ledger
    files: Files
    runner: Runner
    can_draw: Callable[[], Awaitable[bool]] = _always
    keys: Keys | None = None
    history: SqlHistory | None = None
