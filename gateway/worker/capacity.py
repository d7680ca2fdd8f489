"""The replicas that draw, by what they report and by what was sent there: who lives, and how many have room.

Which replica a request goes to is `gateway.worker.placing`'s rule.
"""

import logging
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from gateway.worker.placing import ReplicaState, Wanted
from pipelines.weights.at_hand import Weights

REPORT_S = 1.0  # between two reports of a replica
STALE_S = 4.0  # a replica that has been silent for so long is gone
MOST_AVOIDED_S = 600.0
AVOIDED_S = 15.0  # a replica to which Serve sends nothing, which mostly is about to stop, gets nothing for so long
REMEMBERED_HINTS = 4096
ON_ITS_WAY_S = 5.0  # at most, until what was given to a replica is among what it says that it draws
USUAL_ROWS = 2.0  # of a request of which nothing is known: one picture, guided

log = logging.getLogger("fooocus.gateway")


@dataclass(frozen=True, slots=True)
class Report:
    """What a replica says of itself. capacity: rows that it draws at once. variants: names of the weights it has at
    hand, the ones used last at the end. holds: the same as requests name them, of those that it has drawn."""

    capacity: int
    variants: tuple[str, ...] = ()
    holds: tuple[Weights, ...] = ()


@dataclass(frozen=True, slots=True)
class Room:
    """What there is to draw with: how many replicas live, and how many rows of requests they have."""

    replicas: int = 0
    capacity: int = 0


class ReplicaRegistry:
    """Counts the replicas that live, and what each was given, and logs who comes, changes and goes. clock: seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._reports: dict[str, tuple[Report, float]] = {}
        self._states: dict[str, ReplicaState] = {}
        self._given: dict[str, Counter[Wanted]] = {}  # what has a place, also at a replica that is silent
        self._others: dict[str, tuple[int, float]] = {}  # drawn for who led before, and since when it may be fewer
        self._avoided: dict[str, tuple[float, float]] = {}  # until when, and for how long by then
        self._hinted: OrderedDict[str, str] = OrderedDict()  # where each hint's last request went
        self._hints: defaultdict[str, set[str]] = defaultdict(set)  # the same by replica

    def report(
        self,
        replica: str,
        capacity: int,
        variants: Sequence[str] = (),
        holds: Sequence[Weights] = (),
        live: int = 0,
    ) -> None:
        """A replica lives, draws `capacity` rows at once, and has the weights of `variants` and `holds` at hand.

        live: requests that it draws. Those beyond what was given to it when it is first heard of were given by another
        dispatcher, which has stopped or was lost; they take room until they end. That they have ended is believed where
        `live` is below them, or has left no room for them for as long as something given may be on its way. Later ones
        are not among them: a report is older than what was taken back meanwhile.
        """
        told = Report(capacity, tuple(variants), tuple(holds))
        before = self._reports.get(replica)
        if before is None or (before[0].capacity, {*before[0].variants}) != (capacity, {*variants}):
            log.info("replica %s can hold %d rows and has %s", replica, capacity, ", ".join(variants) or "no variant")
        self._reports[replica] = told, self._clock()
        self._hear_of_others(replica, live, is_new=before is None)
        self._refresh(replica)

    def living(self) -> dict[str, Report]:
        """The last report of each replica that lives."""
        oldest = self._clock() - STALE_S
        for name, (_, at) in [*self._reports.items()]:
            if at < oldest:
                log.warning("replica %s has been silent for %g s; nothing more is meant for it", name, STALE_S)
                del self._reports[name], self._others[name]
                self._states.pop(name, None)
        return {name: report for name, (report, _) in self._reports.items()}

    def room(self) -> Room:
        """What lives now."""
        living = self.living()
        return Room(len(living), sum(report.capacity for report in living.values()))

    def states(self) -> list[ReplicaState]:
        """Of each replica that lives and takes calls."""
        now = self._clock()
        living = self.living()
        for name in [name for name in self._avoided if name not in living]:
            del self._avoided[name]
        return [self._states[name] for name in living if name not in self._avoided or self._avoided[name][0] <= now]

    def all_states(self) -> list[ReplicaState]:
        """Of each replica that lives, also of those that take no calls now."""
        return [self._states[name] for name in self.living()]

    def is_full(self, replica: str) -> bool:
        """Whether it lives and has no row free."""
        state = self._states.get(replica)
        return state is not None and not state.has_room

    def give(self, replica: str, wanted: Wanted) -> None:
        """A request has a place there."""
        self._given.setdefault(replica, Counter())[wanted] += 1
        if wanted.hint:
            self._forget_hint(wanted.hint)
            self._hinted[wanted.hint] = replica
            self._hints[replica].add(wanted.hint)
            if len(self._hinted) > REMEMBERED_HINTS:
                self._forget_hint(next(iter(self._hinted)))
        self._refresh(replica)

    def take_back(self, replica: str, wanted: Wanted) -> None:
        """A request has no place there any more."""
        given = self._given[replica]
        given[wanted] -= 1
        if given[wanted] <= 0:
            del given[wanted]
        if not given:
            del self._given[replica]
        self._refresh(replica)

    def avoid(self, replica: str) -> None:
        """Serve does not send it what is meant for it. Each time within as long again it is for twice as long."""
        now, (until, former) = self._clock(), self._avoided.get(replica, (0.0, 0.0))
        if now < until:
            return
        seconds = min(2 * former, MOST_AVOIDED_S) if former and now < until + former else AVOIDED_S
        log.warning("replica %s takes nothing now; others do for the next %g s", replica, seconds)
        self._avoided[replica] = now + seconds, seconds

    def _hear_of_others(self, replica: str, live: int, is_new: bool) -> None:
        now, found = self._clock(), max(0, live - self._given.get(replica, Counter()).total())
        number, since = (found, now) if is_new else self._others[replica]
        number = min(number, live)
        if found >= number:
            since = now
        elif now - since >= ON_ITS_WAY_S:
            number, since = found, now
        self._others[replica] = number, since

    def _forget_hint(self, hint: str) -> None:
        if (replica := self._hinted.pop(hint, None)) is not None:
            self._hints[replica].discard(hint)
            if not self._hints[replica]:
                del self._hints[replica]

    def _refresh(self, replica: str) -> None:
        if replica not in self._reports:
            return
        given = self._given.get(replica, Counter())
        report, _ = self._reports[replica]
        state = self._states.setdefault(replica, ReplicaState(replica, 0))
        others, _ = self._others[replica]
        state.rows = report.capacity
        state.taken = others * USUAL_ROWS + sum(wanted.rows * number for wanted, number in given.items())
        state.requests = others + given.total()
        # what was sent there is brought there, and will be in the report of a second later
        state.holds = {*report.holds, *(wanted.weights for wanted in given)}
        state.bases = {weights.base for weights in state.holds}
        state.hints = self._hints.get(replica, frozenset())
