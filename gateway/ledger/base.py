"""The ledger as its callers see it: what each call may assume and what it promises."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from gateway.work import Work


class State(StrEnum):
    """Where a request is.

    QUEUED and CLAIMED are both `IN_QUEUE` towards clients; RUNNING begins with the first step.
    """

    QUEUED = "queued"
    CLAIMED = "claimed"
    RUNNING = "running"
    DONE = "done"


class Outcome(StrEnum):
    """How a request that is DONE ended."""

    OK = "ok"
    ERROR = "error"
    CANCELLED = "cancelled"


class CancelAnswer(StrEnum):
    """What a call for cancellation met (fal-protocol 4.5)."""

    REMOVED = "removed"  # was queued or claimed-but-not-begun and queued again: never runs
    REQUESTED = "requested"  # is held by an owner, who has been told
    ALREADY_DONE = "already_done"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of a request's log. number counts from 1 within the request."""

    number: int
    at: datetime
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the result route replays: status code, JSON body and headers of the model's own answer."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    error_type: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A work held by `owner` for this `attempt`; every later write names all three, so a lost holder writes nothing."""

    work: Work
    owner: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Status:
    """What status routes need; costs one cheap read.

    position: the requests of the same app ahead of it; only while QUEUED or CLAIMED.
    """

    request_id: str
    app: str
    state: State
    position: int | None
    outcome: Outcome | None
    error: str | None
    error_type: str | None
    inference_seconds: float | None


class Ledger(Protocol):
    """The durable store of requests. Every method is one transaction; times are UTC.

    `app` is the first two segments of an endpoint id (`fal-ai/fooocus`). Clients ask under the app, so a request is
    known under its app alone: a read with another app finds nothing.
    """

    async def submit(self, work: Work, app: str) -> int:
        """Accept a request as QUEUED and return its position (requests of the same app ahead of it)."""

    async def begin(self, work: Work, app: str, owner: str, lease_s: float) -> Claim:
        """Accept a request as CLAIMED by `owner` at birth: a sync run."""

    async def claim(self, owner: str, count: int, lease_s: float) -> Sequence[Claim]:
        """Take up to `count` QUEUED requests, oldest first, for `lease_s` seconds; each goes to one owner only."""

    async def heartbeat(self, owner: str, lease_s: float) -> None:
        """Extend every lease that `owner` holds."""

    async def requeue(self, claim: Claim) -> bool:
        """Put a held request back as QUEUED at its old place. False when the claim was lost."""

    async def expire(self) -> int:
        """Requeue requests whose lease ran out; return how many. A sync run's ends in an error: nobody listens."""

    async def running(self, claim: Claim) -> bool:
        """Mark the first step: RUNNING, started_at. False when the claim was lost."""

    async def log(self, claim: Claim, lines: Sequence[tuple[str, str]]) -> None:
        """Append (level, message) lines in order; does nothing when the claim was lost."""

    async def finish(self, claim: Claim, outcome: Outcome, answer: Answer) -> bool:
        """Complete a held request, once. False when the claim was lost (nothing is written)."""

    async def cancel(self, request_id: str, app: str) -> CancelAnswer:
        """Cancel: a QUEUED request becomes DONE/CANCELLED with a 499 answer; a held one is flagged for its owner."""

    async def cancelled(self, owner: str) -> Sequence[str]:
        """The ids that `owner` holds and somebody asked to cancel."""

    async def status(self, request_id: str, app: str) -> Status | None: ...

    async def logs(self, request_id: str, after: int = 0) -> Sequence[LogEntry]:
        """Log lines whose number is above `after`, in order."""

    async def answer(self, request_id: str, app: str) -> Answer | None:
        """The answer of a DONE request; None when it is unknown or not DONE (ask `status` which)."""

    async def depth(self) -> int:
        """How many requests are QUEUED, over all apps."""

    async def close(self) -> None: ...
