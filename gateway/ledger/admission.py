"""Whether a submission may come in, and whether it may begin at once: the limits on what waits and what is held."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from gateway.ledger.models import AtOnce, State, Terms, TooMany
from gateway.ledger.statements import COUNT_HELD, COUNT_OPEN, COUNT_STATES, COUNT_STATES_OF_KEY, COUNT_WAITING

_REMEMBERED = 10_000  # keys


@dataclass(frozen=True, slots=True)
class Counted:
    """How many requests were not DONE while `newest` was the greatest seq.

    No older one ever joins them, so that at most these and one for each seq given out since can be waiting later.
    """

    going: int
    newest: int

    def at_most(self, newest: int) -> int:
        return self.going + max(0, newest - self.newest)  # it goes back where the newest were deleted


Counts = Mapping[str | None, Counted]  # by key; None: of all keys


class Admission:
    """Holds submissions to the limits, over all processes: exactly, yet it counts only where a limit may be reached.

    waiting: how many may wait, of all keys together (`Limits`). To be asked under the lock of those who submit.
    """

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self._counted: dict[str | None, Counted] = {}

    def admit(self, connection: Connection, terms: Terms, newest: int) -> Counts:
        """Raise TooMany where `terms` or the service allow no more. newest: the greatest seq that is given out.

        Returns what was counted, for `remember` once its transaction is committed; without that it may not be true.
        """
        counts: dict[str | None, Counted] = {}
        if (waiting := self._reached(connection, None, self.waiting, newest, counts)) is not None:
            raise TooMany(f"{waiting} requests are waiting, and the service takes no more.")
        # fewer than the service's limit are waiting, as was just found
        if terms.max_ahead is not None and terms.max_ahead < self.waiting:
            more = connection.execute(COUNT_WAITING, {"most": terms.max_ahead + 1}).scalar_one()
            if more > terms.max_ahead:
                raise TooMany(f"More than {terms.max_ahead} requests are waiting.")
        if terms.max_of_key is not None:
            of_key = self._reached(connection, terms.key, terms.max_of_key, newest, counts)
            if of_key is not None:
                raise TooMany(f"{of_key} requests of this key are waiting, and it may have no more.")
        if terms.listener is not None and terms.max_open is not None:
            opened = connection.execute(COUNT_OPEN, {"of_key": terms.key, "most": terms.max_open}).scalar_one()
            if opened >= terms.max_open:
                raise TooMany(f"{opened} calls of this key are open and wait for their pictures; it may have no more.")
        return counts

    def remember(self, counts: Counts) -> None:
        if len(self._counted) > _REMEMBERED:
            self._counted.clear()
        self._counted.update(counts)

    def _reached(
        self, connection: Connection, key: str | None, limit: int, newest: int, counts: dict[str | None, Counted]
    ) -> int | None:
        """How many are waiting, of `key` or of all, where that is `limit` or more."""
        known = self._counted.get(key)
        if known is not None and known.at_most(newest) < limit:
            return None
        if key is None:
            rows = connection.execute(COUNT_STATES).all()
        else:
            rows = connection.execute(COUNT_STATES_OF_KEY, {"of_key": key}).all()
        of_state = {row.state: int(row.number) for row in rows}
        counts[key] = Counted(sum(of_state.values()), newest)
        waiting = of_state.get(State.QUEUED, 0)
        return waiting if waiting >= limit else None


def may_hold_one_more(connection: Connection, key: str, at_once: AtOnce) -> bool:
    """Whether a key may have one more request held. To be asked under the lock of those who claim."""
    most = at_once.most(key)
    return most is None or connection.execute(COUNT_HELD, {"of_key": key, "most": most}).scalar_one() < most
