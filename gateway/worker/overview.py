"""What the dispatcher that leads knows of itself and of who draws, as operators are told it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

DrawerState = Literal["idle", "drawing", "avoided", "ended"]
"""`avoided`: Serve sends it nothing, mostly since it is about to stop. `ended`: its engine has, and it is replaced."""


@dataclass(frozen=True, slots=True)
class Lately:
    """What a replica has drawn in the last minute. calls, rows: of the UNet. busy: for which part of that minute.

    bases_found, bases_built: how often a request's base was at hand, and was not; adapters likewise LoRAs of rows.
    """

    calls: int = 0
    rows: int = 0
    busy: float = 0.0
    bases_found: int = 0
    bases_built: int = 0
    adapters_found: int = 0
    adapters_built: int = 0


@dataclass(frozen=True, slots=True)
class Drawer:
    """A replica that lives. rows: that it draws at once; taken: of them, by the `requests` that have a place there.

    bases: that it has at hand besides the family's own. lora_sets: how many.
    """

    name: str
    state: DrawerState
    rows: int
    taken: float
    requests: int
    bases: Sequence[str] = ()
    lora_sets: int = 0
    lately: Lately = Lately()


@dataclass(frozen=True, slots=True)
class Overview:
    """leader: the name of the dispatcher that tells this, which leads for `leads_for_s` seconds. starting: how many
    replicas are being started. metrics: addresses at which the machines offer theirs."""

    leader: str
    leads_for_s: float
    drawers: Sequence[Drawer] = ()
    starting: int = 0
    metrics: Sequence[str] = ()
