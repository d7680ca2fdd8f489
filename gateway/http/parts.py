"""What the app is built from."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.broadcasting import DispatcherLink
from gateway.files.base import Files
from gateway.keys.base import Keys
from gateway.ledger.base import Ledger
from gateway.ledger.history import SqlHistory
from gateway.settings import GatewaySettings


async def _always() -> bool:
    return True


@dataclass(frozen=True)
class Parts:
    """The stores of one app, and the dispatcher that draws what is put into them.

    can_draw: whether anything would take a work now; asked by `/ready`. keys: needed where settings require keys.
    history: of the ledger; without it there are no routes for it.
    """

    settings: GatewaySettings
    ledger: Ledger
    files: Files
    dispatcher: DispatcherLink
    can_draw: Callable[[], Awaitable[bool]] = _always
    keys: Keys | None = None
    history: SqlHistory | None = None
