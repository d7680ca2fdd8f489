"""What the Dispatcher tells operators of the replicas that draw: how full they are, how the last minute went."""

from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic

from deployments.figures import Spent
from gateway.worker.capacity import ReplicaRegistry
from gateway.worker.overview import Drawer, DrawerState, Lately
from gateway.worker.placing import ReplicaState

LAST_S = 60.0


class Recents:
    """What each replica has drawn in the last minute, by its reports. clock: seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._spent: dict[str, deque[tuple[float, Spent]]] = {}  # of each the last at the end

    def hear(self, replica: str, spent: Spent) -> None:
        """A replica says what it has drawn since it last did."""
        now = self._clock()
        if replica not in self._spent:
            self._forget(now)
        told = self._spent.setdefault(replica, deque())
        told.append((now, spent))
        while told[0][0] <= now - LAST_S:
            told.popleft()

    def of(self, replica: str) -> Lately:
        oldest = self._clock() - LAST_S
        last = [spent for at, spent in self._spent.get(replica, ()) if at > oldest]
        return Lately(
            calls=sum(spent.calls for spent in last),
            rows=sum(spent.rows for spent in last),
            busy=min(1.0, sum(spent.seconds for spent in last) / LAST_S),
            bases_found=sum(spent.bases_found for spent in last),
            bases_built=sum(spent.bases_built for spent in last),
            adapters_found=sum(spent.adapters_found for spent in last),
            adapters_built=sum(spent.adapters_built for spent in last),
        )

    def _forget(self, now: float) -> None:
        for name in [name for name, told in self._spent.items() if told[-1][0] <= now - LAST_S]:
            del self._spent[name]


def drawers_of(replicas: ReplicaRegistry, recents: Recents) -> Sequence[Drawer]:
    """Each replica that lives, by name."""
    open_ones = {state.name for state in replicas.states()}
    return [
        Drawer(
            name=state.name,
            state=_state_of(state, state.name in open_ones),
            rows=int(state.rows),
            taken=state.taken,
            requests=state.requests,
            bases=sorted(filter(None, state.bases)),
            lora_sets=len({weights.loras for weights in state.holds if weights.loras}),
            lately=recents.of(state.name),
        )
        for state in sorted(replicas.all_states(), key=lambda state: state.name)
    ]


def _state_of(state: ReplicaState, is_open: bool) -> DrawerState:
    if not state.rows:
        return "ended"
    if not is_open:
        return "avoided"
    return "drawing" if state.requests else "idle"
