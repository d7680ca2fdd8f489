"""The ledger as its callers see it: what each call may assume and what it promises."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, Protocol

from gateway.errors import PlatformError
from gateway.monitoring.trace import Trace
from gateway.work import Work

RETRY_AFTER_S = 5


class State(StrEnum):
    """Where a request is.

    QUEUED and CLAIMED are both `IN_QUEUE` towards clients; RUNNING begins with the first step, or for a sync run that
    found a free place (`Place`) with its submission.
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


class Priority(IntEnum):
    """What waits as LOW is claimed when nothing waits as NORMAL (fal-protocol 7.1)."""

    NORMAL = 0
    LOW = 1


class Payload(StrEnum):
    """Whether a request's input and output stay (`X-Fal-Store-IO`)."""

    KEPT = "kept"
    PASSING = "passing"  # no history shows them; they stay until the client has had time to fetch its result
    GONE = "gone"


class ReleaseOutcome(StrEnum):
    """What became of a request whose attempt failed."""

    QUEUED = "queued"
    ENDED = "ended"  # with its cancellation, or with the failure where it may not be tried again
    LOST = "lost"  # somebody else holds or has ended it; nothing was written


class TooMany(PlatformError):
    """More requests wait, or run at once, than the client or the service allows: a 429, which all clients try again."""

    def __init__(self, detail: str) -> None:
        super().__init__("concurrent_requests_limit", detail, status=429)

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "x-fal-needs-retry": "1", "retry-after": str(RETRY_AFTER_S)}


class IdempotencyConflict(PlatformError):
    """An idempotency key came again with another body. Not a 409, which the Python client would send ten times more."""

    def __init__(self) -> None:
        super().__init__("bad_request", "This Idempotency-Key was used for a request with another body.", status=422)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a ledger takes and tries.

    waiting: QUEUED requests of all keys together; a submission beyond is refused.
    retries: attempts after the first that faults of the infrastructure may cost a request, lost leases included.
    crashes: replicas that a request may take down with it; the last one ends it.
    deliveries: attempts at one webhook.
    """

    waiting: int = 10_000
    retries: int = 10
    crashes: int = 3
    deliveries: int = 11


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's own name for a submission, one per API key and endpoint. fingerprint: SHA-256 (hex) of its body."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Terms:
    """Under what a request is accepted.

    key: the id of the API key whose request it is; empty where the service is open.
    start_within_s: when it has not begun so many seconds after its submission, it ends in `request_timeout`.
    max_ahead: refuse it when more than so many requests are QUEUED already, over all keys (`fal_max_queue_length`).
    max_of_key: refuse it when so many of its key are QUEUED already.
    webhook: the address that hears of the end. media: the keys of its stored inputs, to be deleted with it.
    may_retry: false ends it with the first fault of the infrastructure (`X-Fal-No-Retry`).
    input: the client's own JSON, for the history; store_io: false keeps input and output out of it (`X-Fal-Store-IO`).

    listener: who holds the call of a client that waits for the result (a sync run); the request ends when nothing is
    heard of it for `listen_s` seconds (`Ledger.listen`). max_open: refuse it when so many of its key have a listener.
    """

    key: str = ""
    priority: Priority = Priority.NORMAL
    start_within_s: float | None = None
    max_ahead: int | None = None
    max_of_key: int | None = None
    listener: str | None = None
    listen_s: float = 30.0
    max_open: int | None = None
    idempotency: Idempotency | None = None
    webhook: str | None = None
    media: Sequence[str] = ()
    may_retry: bool = True
    input: str | None = None
    store_io: bool = True


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of a request's log. number counts from 1 within the request."""

    number: int
    at: datetime
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the result route replays: status code, JSON body and headers of the model's own answer.

    text: the body as it is stored; None for an answer that was not read from the ledger.
    """

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    error_type: str | None = None
    text: str | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """A work held by `owner` for this `attempt`; every later write names all three, so a lost holder writes nothing.

    queued_s: since its submission, earlier attempts included. begun: it was born running (`Place`), so nobody has to
    say that it begins. rank: what is claimed goes in ascending order of these, as it was claimed in.
    """

    work: Work
    owner: str
    attempt: int
    queued_s: float = field(default=0.0, compare=False)
    begun: bool = field(default=False, compare=False)
    rank: tuple[int, ...] = field(default=(), compare=False)

    @property
    def priority(self) -> Priority:
        """The first of its rank."""
        return Priority(self.rank[0]) if self.rank else Priority.NORMAL

    @property
    def trace(self) -> Trace:
        """What logs and spans say of it."""
        return self.work.trace(self.attempt)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A submission's answer. repeated: its idempotency key was known, so that nothing was added; request_id is the
    first one's. position: as in `Status`; 0 once it has begun. claim: of one that took the free place it was given.
    """

    request_id: str
    position: int
    repeated: bool = False
    claim: Claim | None = None


@dataclass(frozen=True, slots=True)
class LogBatch:
    """That a holder still has a request, and what it says since its last heartbeat: (level, message) of its log."""

    claim: Claim
    lines: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class LeaseRenewal:
    """What an owner hears at its heartbeat: what of its reports it still holds, with the attempts, and what of that was
    cancelled. A claim that is not in `held` is lost: whatever its holder writes is dropped.
    """

    held: Mapping[str, int]
    cancelled: frozenset[str]


@dataclass(frozen=True, slots=True)
class AtOnce:
    """How many requests a key may have held at once: `of_key` where it is named there, else `default`. None: any."""

    default: int | None = None
    of_key: Mapping[str, int] = field(default_factory=dict)

    @property
    def limits(self) -> bool:
        """Whether there is any limit."""
        return self.default is not None or bool(self.of_key)

    def most(self, key: str) -> int | None:
        return self.of_key.get(key, self.default)


@dataclass(frozen=True, slots=True)
class Place:
    """A free place of `owner`, in which a submission may begin at once, with a lease of so many seconds.

    at_once: how many of its key all owners may hold, as at a claim.
    """

    owner: str
    lease_s: float
    at_once: AtOnce = field(default_factory=AtOnce)


@dataclass(frozen=True, slots=True)
class Status:
    """What status routes need; costs one cheap read.

    position: the requests of the same app that are not begun and ahead of it; only while QUEUED or CLAIMED. It is exact
    for the moment in which the ledger last read its order (`positions`): claims take what waits in just this order,
    past keys that may not have more at once. It grows when a request is put back before it, when a key with a shorter
    queue submits, or NORMAL ones pass a LOW one.

    lines: how many its log has.
    """

    request_id: str
    app: str
    state: State
    position: int | None
    outcome: Outcome | None
    error: str | None
    error_type: str | None
    inference_seconds: float | None
    lines: int = 0


class Ledger(Protocol):
    """The durable store of requests. Every method is one transaction; times are UTC.

    `app` is the first two segments of an endpoint id (`fal-ai/fooocus`). Clients ask under the app, so a request is
    known under its app alone: a read with another app finds nothing. `key`, where given, hides the requests of all
    other keys in the same way.
    """

    async def submit(self, work: Work, app: str, terms: Terms = ..., place: Place | None = None) -> Accepted:
        """Accept a request: as QUEUED, or held in `place` where nothing waits and its key may have one more at once.

        What is held there is RUNNING from the beginning; CLAIMED where it has a deadline, which is to start
        (`running`). Its lease is to be kept as after a claim. Raises TooMany (nothing was added) and
        IdempotencyConflict. A repeated submission is never refused as full.
        """

    async def repeated(self, work: Work, terms: Terms) -> Accepted | None:
        """The first submission under the idempotency key of `terms`; None where there was none.

        Raises IdempotencyConflict. `submit` asks the same in its own transaction.
        """

    async def claim(self, owner: str, count: int, lease_s: float, at_once: AtOnce = ...) -> Sequence[Claim]:
        """Take up to `count` QUEUED requests for `lease_s` seconds, in order; each goes to one owner only.

        The order: NORMAL before LOW, keys in turn within a priority, oldest first within a key. at_once: what would be
        more of a key waits, and lets others pass; it holds over all owners.
        """

    async def heartbeat(self, owner: str, lease_s: float, reports: Sequence[LogBatch]) -> LeaseRenewal:
        """Extend the leases of what `owner` reports, and write what happened meanwhile; a lost claim's report does
        nothing, and a claim without a report runs out.

        One transaction for all of an owner's requests, so that one a second keeps leases, logs and cancellations.
        """

    async def listen(self, listener: str, lease_s: float, request_ids: Sequence[str]) -> None:
        """Say that `listener` still waits for these requests; one transaction for all of them."""

    async def abandon(
        self, request_id: str, listener: str, outcome: Outcome, answer: Answer, *, begun: bool = ...
    ) -> bool:
        """Complete a request that its listener no longer waits for, whoever holds it, which finds its claim lost.

        begun: false leaves one that is RUNNING alone. False when nothing was ended.
        """

    async def requeue(self, claim: Claim) -> bool:
        """Put a held request back at its old place, as if it had not been claimed. False when the claim was lost."""

    async def retry(self, claim: Claim, fault: Answer, *, crashed: bool = False) -> ReleaseOutcome:
        """Put a held request back at its old place after a fault that was not its own.

        fault: what its client is answered when it has no attempts left (`Limits`) or may not be tried again.
        crashed: the fault took a replica down.
        """

    async def expire(self) -> int:
        """End what has not begun by its deadline and what nobody listens to any more; take requests from owners whose
        lease ran out, and return how many of these are queued again. A lost lease counts as a retry.

        Any process may do it, and several at once.
        """

    async def running(self, claim: Claim) -> bool:
        """Mark the first step: RUNNING, started_at. False when the claim was lost, or its start deadline is over."""

    async def log(self, claim: Claim, lines: Sequence[tuple[str, str]]) -> None:
        """Append (level, message) lines in order; does nothing when the claim was lost."""

    async def finish(
        self,
        claim: Claim,
        outcome: Outcome,
        answer: Answer,
        media: Sequence[str] = (),
        lines: Sequence[tuple[str, str]] = (),
    ) -> bool:
        """Complete a held request, once, and owe its webhook. False when the claim was lost (nothing is written).

        media: the keys of its stored outputs, to be deleted with it. lines: the last ones of its log, as for `log`.
        """

    async def cancel(self, request_id: str, app: str, key: str | None = None) -> CancelAnswer:
        """Cancel: a QUEUED request becomes DONE/CANCELLED with a 499 answer; a held one is flagged for its owner."""

    async def status(self, request_id: str, app: str, key: str | None = None) -> Status | None: ...

    async def statuses(self, request_ids: Sequence[str]) -> Mapping[str, Status]:
        """The statuses of many requests of all apps and keys, by id; unknown ids are left out. One query for up to
        a thousand.
        """

    async def logs(self, request_id: str, after: int = 0) -> Sequence[LogEntry]:
        """Log lines whose number is above `after`, in order."""

    async def answer(self, request_id: str, app: str, key: str | None = None) -> Answer | None:
        """The answer of a DONE request; None when it is unknown or not DONE (ask `status` which)."""

    async def waits(self, besides: Collection[str] = ()) -> bool:
        """Whether any request is QUEUED, of another key than `besides`. Without these it is one step, however many
        there are."""

    async def depth(self) -> int:
        """How many requests are QUEUED, over all apps."""

    async def close(self) -> None: ...
