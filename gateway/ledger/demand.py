"""The work in the ledger that is not done: what it costs, how much of it has begun, and how long it has waited."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from gateway.ledger.models import Priority, State
from gateway.ledger.statements import ARRIVED, DEMAND

_LAST = 2**63 - 1  # behind it there is no request


@dataclass(frozen=True, slots=True)
class Waiting:
    """Of the QUEUED requests of a priority: how many, what they cost in row-steps, and how long the oldest waits."""

    number: int = 0
    row_steps: float = 0.0
    oldest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Demand:
    """waiting: by priority. held: CLAIMED and RUNNING requests, with what those cost in row-steps, begun parts and all.

    newest: the greatest number of a request; arrived_row_steps: what all cost that came behind the one asked about.
    """

    waiting: Mapping[Priority, Waiting] = field(default_factory=dict)
    held: int = 0
    claimed_row_steps: float = 0.0
    running_row_steps: float = 0.0
    newest: int = 0
    arrived_row_steps: float = 0.0

    def waits(self, priority: Priority) -> Waiting:
        return self.waiting.get(priority, Waiting())


def read_demand(connection: Connection, now: datetime, behind: int | None) -> Demand:
    """The demand now. behind: the `newest` of the last time, from which on what has arrived is counted."""
    waiting: dict[Priority, Waiting] = {}
    row_steps, held = {State.CLAIMED: 0.0, State.RUNNING: 0.0}, 0
    for row in connection.execute(DEMAND):
        if (state := State(row.state)) is State.QUEUED:
            oldest_s = max(0.0, (now - row.oldest).total_seconds())
            waiting[Priority(row.priority)] = Waiting(row.number, row.row_steps, oldest_s)
        else:
            held += row.number
            row_steps[state] += row.row_steps
    came = connection.execute(ARRIVED, {"behind": _LAST if behind is None else behind}).one()
    return Demand(
        waiting,
        held,
        row_steps[State.CLAIMED],
        row_steps[State.RUNNING],
        came.newest or 0,
        came.row_steps or 0.0,
    )
