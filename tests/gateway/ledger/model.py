"""The ledger in memory, as simply as its promises can be written down: what the state machine holds the real one to."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gateway.ledger.models import CancelAnswer, Limits, Outcome, Priority, ReleaseOutcome, State, Terms

LEASE_S = 30.0


@dataclass
class Row:
    """A request. others: first claims of other keys in its priority since it waits, of which `bound` are allowed."""

    name: str
    terms: Terms
    seq: int
    turn: int
    start_by: datetime | None
    bound: int
    listened_until: datetime | None = None
    state: State = State.QUEUED
    owner: str | None = None
    attempt: int = 0
    lease_until: datetime | None = None
    cancel: bool = False
    retries: int = 0
    crashes: int = 0
    outcome: Outcome | None = None
    answer: object = None
    lines: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    @property
    def place(self) -> tuple[int, int, int]:
        return self.terms.priority, self.turn, self.seq

    @property
    def held(self) -> bool:
        return self.state in (State.CLAIMED, State.RUNNING)


@dataclass(frozen=True)
class Hold:
    """A claim as the model names it, whether it is still good or not."""

    name: str
    owner: str
    attempt: int


class Model:
    """Every method answers what the ledger must answer, and what it leaves is what the ledger must show."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.rows: dict[str, Row] = {}
        self.claimed: dict[tuple[Priority, str], int] = {}
        self.debts: Counter[tuple[Priority, str]] = Counter()

    def submit(self, name: str, terms: Terms, now: datetime, owner: str | None = None) -> int | None:
        """The position, 0 of what has begun, or None where the queue is full. owner: of a place that is free."""
        if len(self.waiting()) >= self.limits.waiting or self._too_many_calls(terms):
            return None
        group = terms.priority, terms.key
        mine = [row for row in self.waiting() if (row.terms.priority, row.terms.key) == group]
        if not mine:
            self.debts[group] = 0
        latest = max((turn for (priority, _), turn in self.claimed.items() if priority is terms.priority), default=0)
        turn = max([latest, self.claimed.get(group, -1) + 1, *(row.turn + 1 for row in mine)])
        start_by = None if terms.start_within_s is None else now + timedelta(seconds=terms.start_within_s)
        bound = len(mine) + self.debts[group] + 2
        row = Row(name, terms, len(self.rows), turn, start_by, bound)
        if terms.listener is not None:
            row.listened_until = now + timedelta(seconds=terms.listen_s)
        is_first = not self.waiting()
        self.rows[name] = row
        if owner is not None and is_first:
            self._hold(row, owner, now)
            if start_by is None:
                row.state = State.RUNNING
        return self.position(name) or 0

    def _too_many_calls(self, terms: Terms) -> bool:
        mine = [row for row in self.rows.values() if row.terms.key == terms.key and row.listened_until is not None]
        return terms.listener is not None and terms.max_open is not None and len(mine) >= terms.max_open

    def listen(self, listener: str, now: datetime) -> None:
        for row in self.rows.values():
            if row.terms.listener == listener and row.state is not State.DONE:
                row.listened_until = now + timedelta(seconds=LEASE_S)

    def abandon(self, name: str, listener: str, begun: bool, answer: object) -> bool:
        row = self.rows[name]
        if row.terms.listener != listener or row.state is State.DONE or (row.state is State.RUNNING and not begun):
            return False
        self._end(row, Outcome.CANCELLED, answer)
        return True

    def claim(self, owner: str, count: int, now: datetime) -> list[Hold]:
        in_time = [row for row in self.waiting() if row.start_by is None or row.start_by > now]
        taken = in_time[:count]
        return [self._hold(row, owner, now) for row in taken]

    def _hold(self, row: Row, owner: str, now: datetime) -> Hold:
        if row.attempt == 0:
            self._first_claim(row)
        group = row.terms.priority, row.terms.key
        self.claimed[group] = max(row.turn, self.claimed.get(group, -1))
        row.state, row.owner, row.attempt = State.CLAIMED, owner, row.attempt + 1
        row.lease_until = now + timedelta(seconds=LEASE_S)
        return Hold(row.name, owner, row.attempt)

    def _first_claim(self, row: Row) -> None:
        assert all(count <= row.bound for count in row.others.values()), f"{row.name} waited beyond the bound"
        for other in self.waiting():
            if other.terms.priority is row.terms.priority and other.terms.key != row.terms.key:
                other.others[row.terms.key] += 1

    def running(self, hold: Hold, now: datetime) -> bool:
        row = self.of(hold)
        if row is None or self._ended_late(row, now):
            return False
        row.state = State.RUNNING
        return True

    def log(self, hold: Hold, line: str) -> None:
        if (row := self.of(hold)) is not None:
            row.lines.append(line)

    def heartbeat(self, owner: str, reports: Sequence[tuple[Hold, str]], now: datetime) -> dict[str, int]:
        held: dict[str, int] = {}
        for hold, line in reports:
            if (row := self.of(hold)) and row.owner == owner:
                row.lines.append(line)
                row.lease_until = now + timedelta(seconds=LEASE_S)
                held[row.name] = row.attempt
        return held

    def finish(self, hold: Hold, answer: object, line: str) -> bool:
        row = self.of(hold)
        if row is not None:
            row.lines.append(line)
            self._end(row, Outcome.OK, answer)
        return row is not None

    def retry(self, hold: Hold, fault: object, crashed: bool, now: datetime) -> ReleaseOutcome:
        row = self.of(hold)
        return ReleaseOutcome.LOST if row is None else self._let_go(row, fault, True, crashed, now)

    def requeue(self, hold: Hold, now: datetime) -> bool:
        row = self.of(hold)
        if row is not None:
            self._let_go(row, "runner_disconnected", False, False, now)
        return row is not None

    def expire(self, now: datetime) -> int:
        queued = 0
        for row in self.rows.values():
            lost = row.held and row.lease_until is not None and row.lease_until < now
            if not self._ended_late(row, now) and (lost or self._unheard(row, now)):
                queued += self._let_go(row, "runner_disconnected", True, False, now) is ReleaseOutcome.QUEUED
        return queued

    @staticmethod
    def _unheard(row: Row, now: datetime) -> bool:
        return row.listened_until is not None and row.listened_until < now

    def cancel(self, name: str) -> CancelAnswer:
        row = self.rows.get(name)
        if row is None:
            return CancelAnswer.UNKNOWN
        if row.state is State.DONE:
            return CancelAnswer.ALREADY_DONE
        if row.held:
            row.cancel = True
            return CancelAnswer.REQUESTED
        self._end(row, Outcome.CANCELLED, "client_cancelled")
        return CancelAnswer.REMOVED

    def position(self, name: str) -> int | None:
        """How many are claimed and not begun, and how many are claimed before it."""
        begins = sorted((row for row in self.rows.values() if row.state is State.CLAIMED), key=lambda row: row.place)
        order = [row.name for row in [*begins, *self.waiting()]]
        return order.index(name) if name in order else None

    def waiting(self) -> list[Row]:
        return sorted((row for row in self.rows.values() if row.state is State.QUEUED), key=lambda row: row.place)

    def done(self) -> Iterator[Row]:
        return (row for row in self.rows.values() if row.state is State.DONE)

    def holds(self) -> list[Hold]:
        return [Hold(row.name, row.owner, row.attempt) for row in self.rows.values() if row.held and row.owner]

    def of(self, hold: Hold) -> Row | None:
        """The row that `hold` still holds."""
        row = self.rows[hold.name]
        return row if row.held and (row.owner, row.attempt) == (hold.owner, hold.attempt) else None

    def _ended_late(self, row: Row, now: datetime) -> bool:
        begun = row.state not in (State.QUEUED, State.CLAIMED)
        if begun or row.cancel or row.start_by is None or row.start_by > now:
            return False
        self._end(row, Outcome.ERROR, "request_timeout")
        return True

    def _let_go(self, row: Row, fault: object, counts: bool, crashed: bool, now: datetime) -> ReleaseOutcome:
        row.retries, row.crashes = row.retries + counts, row.crashes + crashed
        if row.cancel:
            self._end(row, Outcome.CANCELLED, "client_cancelled")
        elif self._unheard(row, now):
            self._end(row, Outcome.CANCELLED, "client_disconnected")
        elif row.retries > self.limits.retries or row.crashes >= self.limits.crashes:
            self._end(row, Outcome.ERROR, fault)
        elif row.start_by is not None and row.start_by <= now:
            self._end(row, Outcome.ERROR, "request_timeout")
        else:
            row.state, row.owner, row.lease_until = State.QUEUED, None, None
            return ReleaseOutcome.QUEUED
        return ReleaseOutcome.ENDED

    def _end(self, row: Row, outcome: Outcome, answer: object) -> None:
        assert row.state is not State.DONE
        if row.state is State.QUEUED:
            self.debts[row.terms.priority, row.terms.key] += 1
        row.state, row.outcome, row.answer, row.listened_until = State.DONE, outcome, answer, None
