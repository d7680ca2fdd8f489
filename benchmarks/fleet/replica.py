"""A replica that draws, simulated: its engine's calls between two events at once, for nothing in them changes."""

from dataclasses import dataclass, field
from enum import Enum, auto
from heapq import heappop, heappush

from benchmarks.fleet.costs import Curve
from deployments.figures import Spent
from gateway.worker.placing import ReplicaState
from pipelines.weights.at_hand import Weights

Group = tuple[str, int]
"""What may share a call: a base of weights, and a size of pictures."""


class AtHand(Enum):
    """Where what a request is drawn with was."""

    LOADED = auto()
    FILE = auto()
    NOTHING = auto()


PATIENCE = 8  # turns after which the engine's scheduler serves what waits before what has least work left

EPSILON = 1e-9  # of a step


@dataclass(slots=True)
class Calls:
    """The rows of one group, which take every step together.

    cost: of a call, in rows of a megapixel; rows: the rows themselves. done: steps since it began; rate: steps a
    second. ends: when which job will have taken its last step, by `done`, a heap with its cost and rows.
    """

    cost: float = 0.0
    rows: float = 0.0
    done: float = 0.0
    rate: float = 0.0
    ends: list[tuple[float, int, float, float]] = field(default_factory=list)


class Replica:
    """One that lives, or is to live from `ready_at` on. Counts the seconds in which it draws, and the rows of them.

    state: what the routing sees of it.
    """

    __slots__ = (
        *("_curve", "_groups", "_held", "_sets"),
        *(
            "at",
            "busy_s",
            "calls",
            "done_cost",
            "told",
            "holding",
            "number",
            "paid_from",
            "ready_at",
            "rows",
            "state",
            "stopping",
            "version",
            "was_full",
        ),
    )

    def __init__(self, number: int, curve: Curve, sets: int, paid_from: float, ready_at: float) -> None:
        self.number, self._curve, self._sets = number, curve, sets
        self.paid_from, self.ready_at, self.at = paid_from, ready_at, ready_at
        self._held = _Held()
        self.state = ReplicaState(f"r{number}", curve.most, holds=self._held.keys(), bases=self._held.bases)
        self._groups: dict[Group, Calls] = {}
        self.busy_s = self.done_cost = self.calls = self.rows = 0.0
        self.told = 0, 0, 0.0, 0.0
        self.version = self.holding = 0
        self.stopping = self.was_full = False

    @property
    def draws(self) -> bool:
        return bool(self._groups)

    def take(self, weights: Weights, rows: float) -> AtHand:
        """A request is placed here. Where what it is drawn with was until now."""
        self.state.taken += rows
        self.holding += 1
        return self._held.use(weights, self._sets)

    def begin(self, now: float, job: int, group: Group, cost: float, rows: float, steps: float) -> None:
        """A job joins the next call, to take so many steps."""
        self.pass_until(now)
        calls = self._groups.get(group)
        if calls is None:
            calls = self._groups[group] = Calls()
        calls.cost += cost
        calls.rows += rows
        heappush(calls.ends, (calls.done + steps, job, cost, rows))
        self._share()

    def pass_until(self, now: float) -> None:
        """Draw until now."""
        passed = now - self.at
        if passed > 0 and self._groups:
            self.busy_s += passed
            most = self._curve.points[-1][0]
            for calls in self._groups.values():
                steps, cost = calls.rate * passed, calls.cost
                calls.done += steps
                self.calls += steps * (cost / most if cost > most else 1.0)
                self.rows += steps * calls.rows
                self.done_cost += steps * cost
        self.at = now

    def ended(self, now: float) -> list[int]:
        """The jobs that have taken their last step by now, which leave."""
        self.pass_until(now)
        found: list[int] = []
        for group, calls in [*self._groups.items()]:
            while calls.ends and calls.ends[0][0] <= calls.done + EPSILON:
                _, job, cost, rows = heappop(calls.ends)
                calls.cost -= cost
                calls.rows -= rows
                found.append(job)
            if not calls.ends:
                del self._groups[group]
        if found:
            self._share()
        return found

    def leave(self, rows: float) -> None:
        """A request that was placed here is gone."""
        self.state.taken -= rows
        self.holding -= 1

    def spent(self) -> Spent:
        """What was drawn since this was last asked."""
        calls, rows, row_steps, seconds = self.told
        now = self.told = int(self.calls), int(self.rows), self.done_cost, self.busy_s
        return Spent(self.holding, now[0] - calls, now[1] - rows, now[2] - row_steps, now[3] - seconds)

    def next_end(self) -> float | None:
        """When the next job will have taken its last step, if nothing changes before."""
        if not self._groups:
            return None
        soonest = min([(calls.ends[0][0] - calls.done) / calls.rate for calls in self._groups.values()])
        return self.at + max(0.0, soonest)

    def _share(self) -> None:
        """The steps a second of each group: where there are several, the one with the least work left takes PATIENCE
        turns, and each other one a turn."""
        groups = [*self._groups.values()]
        if len(groups) == 1:  # as mostly
            groups[0].rate = 1 / self._curve.seconds(groups[0].cost)
        elif groups:
            first = min(groups, key=lambda calls: (calls.ends[0][0] - calls.done) * calls.ends[0][2])
            took = [self._curve.seconds(calls.cost) * (PATIENCE if calls is first else 1) for calls in groups]
            turn = sum(took)
            for calls in groups:
                calls.rate = (PATIENCE if calls is first else 1) / turn


class _Held(dict[Weights, None]):
    """The weights at hand, used last at the end. bases: of these. files: of the LoRAs that were fetched."""

    def __init__(self) -> None:
        self.bases: set[str] = set()
        self.files: set[str] = set()

    def use(self, weights: Weights, most: int) -> AtHand:
        if not weights.loras:
            return AtHand.LOADED
        known = AtHand.LOADED if weights in self else AtHand.FILE if weights.loras in self.files else AtHand.NOTHING
        if known is AtHand.LOADED:
            del self[weights]
        elif len(self) >= most:
            del self[next(iter(self))]
        self[weights] = None
        self.bases.add(weights.base)
        self.files.add(weights.loras)
        return known
