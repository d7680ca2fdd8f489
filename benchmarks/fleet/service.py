"""A service of one dispatcher and many replicas, simulated event by event, with the real decisions in the loop.

Left out is what no trace here asks for: a key that begins although all is full, and inputs that are fetched.
"""

from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from heapq import heappop, heappush
from itertools import count
from math import inf
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from benchmarks.fleet.costs import Costs
from benchmarks.fleet.replica import AtHand, Replica
from benchmarks.fleet.scaling import Fixed, Scales
from benchmarks.fleet.trace import Trace
from deployments.autoscaling import Figures
from deployments.figures import Arrivals, Paces, Spent
from gateway.ledger.order import Order
from gateway.worker.capacity import USUAL_ROWS
from gateway.worker.places import WEIGHT
from gateway.worker.placing import ReplicaState, Waiting, Wanted, choose, choose_next

TICK_S = 1.0  # between two publications of figures, and hence two decisions
SAMPLE_TICKS = 10
NEVER = datetime(1, 1, 1, tzinfo=UTC)  # nothing here has a time to start by

READY, BEGIN, END, FINISHED = range(4)
_rank = attrgetter("rank")


@dataclass(frozen=True)
class Sample:
    """How things stood at an instant."""

    at: float
    target: int
    living: int
    draws: int
    waits: int


@dataclass
class Outcome:
    """What came of a trace. waits, ends: of each request, seconds from its arrival to its first step and its last.

    paid_s: of all replicas, from their starts. busy_s: in which they drew. row_steps: that they drew. misses: requests
    whose LoRAs were not at hand. full_ms: of a row in a full call.
    """

    waits: NDArray[np.float64]
    ends: NDArray[np.float64]
    paid_s: float = 0.0
    busy_s: float = 0.0
    row_steps: float = 0.0
    misses: int = 0
    most: int = 0
    full_ms: float = 0.0
    samples: list[Sample] = field(default_factory=list)

    @property
    def utilisation(self) -> float:
        """The share of what is paid in which replicas drew."""
        return self.busy_s / self.paid_s if self.paid_s else 0.0

    @property
    def worth(self) -> float:
        """The share of what is paid that the same work takes in full calls."""
        return self.row_steps * self.full_ms / 1000 / self.paid_s if self.paid_s else 0.0


class Service:
    """Plays one trace once."""

    def __init__(
        self,
        trace: Trace,
        scaling: Scales,
        costs: Costs,
        replicas: int = 1,
        sample_ticks: int = SAMPLE_TICKS,
        before: Sequence[tuple[float, Spent]] = (),
    ) -> None:
        """replicas: that draw at the beginning. before: what had come and was drawn by then, and when."""
        self._trace, self._scaling, self._costs = trace, scaling, costs
        self._order, self._line = Order(), list[Waiting]()
        self._events: list[tuple[float, int, int, Replica, int]] = []
        self._serial, self._sample_ticks = count(), sample_ticks
        self._told = deque[tuple[float, Figures]]()  # figures that the policy has not heard yet, and when it will
        self._replicas: dict[int, Replica] = {}  # those that are to live, by number
        self._living: dict[int, Replica] = {}
        self._states: list[ReplicaState] = []  # of those that live
        self._ending: dict[int, Replica] = {}
        self._target = self._number = self._started = 0
        self._held = self._room = 0
        self._free, self._rows = 0.0, USUAL_ROWS  # rows that are free, and those that a request mostly takes
        self._queued_work = self._held_work = self._claimed_work = 0.0
        self._oldest = self._come = 0
        self._claimed = bytearray(len(trace))
        self._paces, self._arrivals, self._come_work = Paces(), Arrivals(), 0.0
        for then, spent in before:
            self._arrivals.hear(spent.row_steps, then)
            self._paces.hear(spent, then)
        self.outcome = Outcome(np.zeros(len(trace)), np.zeros(len(trace)), full_ms=costs.curve.full_ms)
        kinds = trace.kinds
        self._kind, self._loras = trace.kind.tolist(), trace.loras.tolist()
        self._keys = [f"key {number}" for number in range(int(trace.key.max(initial=0)) + 1)]
        self._wanted = [[Wanted(kind.rows, each) for each in trace.weights[at]] for at, kind in enumerate(kinds)]
        self._groups = [(kind.base, kind.size) for kind in kinds]
        self._at: list[float] = trace.at.tolist()
        for _ in range(replicas):
            self._start(0.0, 0.0)
        self._target = replicas

    def run(self) -> Outcome:
        """Until everything is drawn."""
        at, events, number = self._at, self._events, len(self._at)
        key, priority = self._trace.key.tolist(), self._trace.priority.tolist()
        work = [kind.row_steps for kind in self._trace.kinds]
        tick, ticks, now, react_s = 0.0, 0, 0.0, self._costs.react_s
        while self._come < number or self._held or len(self._order):
            arrives = at[self._come] if self._come < number else inf
            happens = events[0][0] if events else inf
            hears = self._told[0][0] if self._told else inf
            if hears <= arrives and hears <= happens and hears <= tick:
                now, figures = self._told.popleft()
                self._decide(now, figures)
            elif tick <= arrives and tick <= happens:
                now, tick = tick, tick + TICK_S
                if react_s:
                    self._told.append((now + react_s, self._figures(now)))
                else:
                    self._decide(now, self._figures(now))
                if ticks % self._sample_ticks == 0:
                    self._sample(now)
                ticks += 1
            elif arrives <= happens:
                now, job = arrives, self._come
                self._come += 1
                self._queued_work += work[self._kind[job]]
                self._come_work += work[self._kind[job]]
                self._order.submit(job, self._keys[key[job]], priority[job])
                self._fill(now)
            else:
                now = happens
                self._happen(*heappop(events))
        for replica in [*self._replicas.values(), *self._ending.values()]:
            replica.pass_until(max(now, replica.at))
            self._retire(now, replica)
        return self.outcome

    def _happen(self, now: float, _serial: int, what: int, replica: Replica, told: int) -> None:
        if what == END:
            if told != replica.version:
                return  # something joined or left meanwhile
            for job in replica.ended(now):
                if self._costs.finish_s:
                    finished = now + self._costs.finish_s
                    heappush(self._events, (finished, next(self._serial), FINISHED, replica, job))
                else:
                    self._end(now, replica, job)
            self._expect(now, replica)
            self._after_end(now, replica)
        elif what == FINISHED:
            self._end(now, replica, told)
            self._after_end(now, replica)
        elif what == BEGIN:
            self._begin(now, replica, told)
        elif replica.number in self._replicas:
            self._living[replica.number] = replica
            self._states.append(replica.state)
            self._room += 1
            self._free += _free_rows(replica)
            self._fill(now)

    def _after_end(self, now: float, replica: Replica) -> None:
        if replica.stopping and not replica.holding:
            self._retire(now, replica)
        self._fill(now)

    def _fill(self, now: float) -> None:
        """Claim what replicas have room for, and place it, as long as that makes room for more."""
        while True:
            ahead = self._costs.look_ahead + int(self._free / self._rows) - len(self._line)
            if ahead > 0 and len(self._order):
                self._claim(ahead)
            if not self._room or not self._line or not self._place_some(now):
                return

    def _claim(self, count: int) -> None:
        for row in self._order.claim(count, NEVER):
            kind = self._trace.kinds[self._kind[row.seq]]
            self._claimed[row.seq] = True
            self._held += 1
            self._queued_work -= kind.row_steps
            self._held_work += kind.row_steps
            self._claimed_work += kind.row_steps
            wanted = self._wanted[self._kind[row.seq]][self._loras[row.seq]]
            insort(self._line, Waiting(str(row.seq), wanted, row.rank), key=_rank)

    def _place_some(self, now: float) -> bool:
        """Whether anybody of the line was placed."""
        placed = False
        while self._room and (next_one := _next_of(self._line, self._states)) is not None:
            goes, name = next_one
            for passed in self._line:
                if passed is goes:
                    break
                passed.passed += 1
            self._line.remove(goes)
            self._place(now, self._living[int(name[1:])], int(goes.name), goes.wanted)
            placed = True
        return placed

    def _place(self, now: float, replica: Replica, job: int, wanted: Wanted) -> None:
        before = _free_rows(replica)
        known = replica.take(wanted.weights, wanted.rows)
        self._free += _free_rows(replica) - before
        self._room -= not replica.state.has_room
        self._rows += WEIGHT * (wanted.rows - self._rows)
        prepare_s = self._costs.prepare_s
        if known is not AtHand.LOADED:
            self.outcome.misses += 1
            prepare_s += self._costs.read_s if known is AtHand.FILE else self._costs.fetch_s
        if prepare_s:
            heappush(self._events, (now + prepare_s, next(self._serial), BEGIN, replica, job))
        else:
            self._begin(now, replica, job)

    def _begin(self, now: float, replica: Replica, job: int) -> None:
        number = self._kind[job]
        kind = self._trace.kinds[number]
        self._claimed_work -= kind.row_steps
        self.outcome.waits[job] = now - self._at[job]
        replica.begin(now, job, self._groups[number], kind.cost, kind.rows, kind.steps)
        self._expect(now, replica)

    def _end(self, now: float, replica: Replica, job: int) -> None:
        kind = self._trace.kinds[self._kind[job]]
        had, before = replica.state.has_room, _free_rows(replica)
        replica.leave(kind.rows)
        if not replica.stopping:
            self._room += replica.state.has_room - had
            self._free += _free_rows(replica) - before
        self._held -= 1
        self._held_work -= kind.row_steps
        self.outcome.ends[job] = now - self._at[job]

    def _expect(self, now: float, replica: Replica) -> None:
        replica.version = version = next(self._serial)
        if (ends := replica.next_end()) is not None:
            heappush(self._events, (max(now, ends), version, END, replica, version))

    def _decide(self, now: float, figures: Figures) -> None:
        wanted = self._scaling.target(figures, now, self._target, len(self._living))
        while len(self._replicas) < wanted:
            self._start(now, now + self._costs.start_of(self._started))
            self._started += 1
        while len(self._replicas) > wanted:
            self._stop(now)
        self._target = wanted
        self.outcome.most = max(self.outcome.most, wanted)

    def _start(self, now: float, ready_at: float) -> None:
        self._number += 1
        replica = Replica(self._number, self._costs.curve, self._costs.sets, now, ready_at)
        self._replicas[replica.number] = replica
        heappush(self._events, (ready_at, next(self._serial), READY, replica, 0))

    def _stop(self, now: float) -> None:
        """One that has not started yet, else the youngest; what it draws is drawn to its end."""
        number = max(self._replicas)
        replica = self._replicas.pop(number)
        replica.stopping = True
        if self._living.pop(number, None) is not None:
            self._states.remove(replica.state)
            self._room -= replica.state.has_room
            self._free -= _free_rows(replica)
        self._ending[number] = replica
        if not replica.holding:
            self._retire(now, replica)

    def _retire(self, now: float, replica: Replica) -> None:
        self._ending.pop(replica.number, None)
        replica.version = -1
        self.outcome.paid_s += now - replica.paid_from
        self.outcome.busy_s += replica.busy_s
        self.outcome.row_steps += replica.done_cost

    def _figures(self, now: float) -> Figures:
        draws = 0
        for replica in self._living.values():
            replica.pass_until(now)
            full, before = not replica.state.has_room, replica.was_full
            self._paces.hear(replica.spent(), now, full and before)
            replica.was_full = full
            draws += replica.holding > 0
        self._arrivals.hear(self._come_work, now)
        self._come_work = 0.0
        return Figures(
            queued_row_steps=self._queued_work,
            held_row_steps=self._held_work,
            claimed_row_steps=self._claimed_work,
            waiting=len(self._order),
            held=self._held,
            oldest_wait_s=self._oldest_wait(now),
            arriving_row_steps_per_s=self._arrivals.per_s(now),
            ms_per_row_step=self._paces.ms_per_row_step(now),
            living=len(self._living),
            busy=draws,
            room=0 if self._line or not self._room else max(1, int(self._free / self._rows)),
            at=now,
        )

    def _oldest_wait(self, now: float) -> float:
        while self._oldest < self._come and self._claimed[self._oldest]:
            self._oldest += 1
        return now - self._at[self._oldest] if self._oldest < self._come else 0.0

    def _sample(self, now: float) -> None:
        draws = sum(replica.draws for replica in self._living.values())
        waits = len(self._order) + len(self._line)
        self.outcome.samples.append(Sample(now, self._target, len(self._living), draws, waits))


def _free_rows(replica: Replica) -> float:
    left = replica.state.rows - replica.state.taken
    return left if left > 0 else 0.0


def _next_of(line: Sequence[Waiting], states: Sequence[ReplicaState]) -> tuple[Waiting, str] | None:
    if len(line) == 1:  # as mostly: nobody is passed, so only the place is to be chosen
        name = choose(states, line[0].wanted)
        return None if name is None else (line[0], name)
    return choose_next(line, states)


def saturated_rate(trace: Trace, costs: Costs, replicas: int = 16, requests: int = 8000) -> float:
    """Row-steps a second of a replica that has always enough to do, by the trace's first requests, all at once."""
    first = slice(0, requests)
    columns = {name: getattr(trace, name)[first] for name in ("kind", "loras", "key", "priority")}
    together = replace(trace, at=np.zeros(len(columns["kind"])), **columns)
    outcome = Service(together, Fixed(replicas), costs, replicas).run()
    return outcome.row_steps / outcome.busy_s
