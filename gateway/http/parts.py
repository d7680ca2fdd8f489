"""What the app is built from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.files.availability import StoreWatch
from gateway.files.base import Files
from gateway.files.upload_quota import UploadAccount
from gateway.keys.base import Keys
from gateway.ledger.figures import SqlFigures
from gateway.ledger.history import SqlHistory
from gateway.ledger.models import Ledger
from gateway.monitoring.monitor import Monitor, NoMonitor
from gateway.settings import GatewaySettings
from gateway.work import FamilyState
from gateway.worker.events import DispatcherLink
from pipelines.spec import Spec


def _usual() -> int:
    return 500


def _nothing(spec: Spec) -> None:
    pass


@dataclass(frozen=True)
class Parts:
    """The stores of one app, and the dispatcher that draws what is put into them.

    keys: needed where settings require keys.
    history: of the ledger; without it there are no routes for it. figures: likewise; without them operators are told
    nothing of the ledger. uploads: what keys have uploaded, counted; without it there are no routes to upload by, for
    nothing would bound them. check: raises the ValidationErrors of a spec that the stages would refuse, where that can
    be told before anything is spent on it; called on other threads, some at once. family: what is drawn with, as
    clients are told; None tells nothing.
    watches: of the stores; asked by `/ready` too. max_ongoing_requests: calls that Serve lets a replica of the app have
    at once. Both these and the limits of the settings may change while the app lives. monitor: counts what happens.
    """

    settings: GatewaySettings
    ledger: Ledger
    files: Files
    dispatcher: DispatcherLink
    keys: Keys | None = None
    history: SqlHistory | None = None
    figures: SqlFigures | None = None
    uploads: UploadAccount | None = None
    check: Callable[[Spec], None] = _nothing
    family: FamilyState | None = None
    watches: Sequence[StoreWatch] = ()
    max_ongoing_requests: Callable[[], int] = _usual
    monitor: Monitor = field(default_factory=NoMonitor)
