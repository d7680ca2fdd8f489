"""Who leads among the dispatchers of each service: a row that says who, and until when, unless it is said again."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from gateway.ledger.database import LEADING, Database, take_lock
from gateway.ledger.tables import UtcDateTime, leader

KEPT = timedelta(days=1)  # of what was the leader of a service that is no more


@dataclass(frozen=True, slots=True)
class Leader:
    """is_over: its lease is, so that any other may lead."""

    name: str
    is_over: bool


class SqlLeadership:
    """Leases of which each service has one, in a ledger's database. Every method is one transaction."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database, self._clock = database, clock

    async def hold(self, service: str, name: str, lease_s: float) -> bool:
        """Let `name` lead for `lease_s` from now, or go on: whether it does, which no other one may hinder."""
        now = self._clock()
        told = {"of": service, "by": name, "to": now + timedelta(seconds=lease_s)}

        def take(connection: Connection) -> bool:
            if connection.execute(_HOLD, {**told, "now": now}).rowcount == 1:
                return True
            take_lock(connection, LEADING)  # of several first ones there is one
            if connection.execute(_LOOK, {"of": service}).first() is not None:
                return False
            connection.execute(_FORGET, {"before": now - KEPT})
            connection.execute(_BEGIN, told)
            return True

        return await self._database.write(take)

    async def look(self, service: str) -> Leader | None:
        """Who leads, or did until its lease was over; None where nobody has, or who did has let go."""
        now = self._clock()
        row = await self._database.read(lambda connection: connection.execute(_LOOK, {"of": service}).first())
        return None if row is None else Leader(row.name, row.until < now)

    async def let_go(self, service: str, name: str) -> None:
        """If `name` leads it does no more, and any other may."""
        await self._database.write(lambda connection: connection.execute(_LET_GO, {"of": service, "by": name}))


_THIS = leader.c.service == bindparam("of")
_HOLD = (
    update(leader)
    .where(_THIS, or_(leader.c.name == bindparam("by"), leader.c.until < bindparam("now", type_=UtcDateTime())))
    .values(name=bindparam("by"), until=bindparam("to", type_=UtcDateTime()))
)
_LOOK = select(leader.c.name, leader.c.until).where(_THIS)
_BEGIN = insert(leader).values(
    service=bindparam("of"), name=bindparam("by"), until=bindparam("to", type_=UtcDateTime())
)
_LET_GO = delete(leader).where(_THIS, leader.c.name == bindparam("by"))
_FORGET = delete(leader).where(leader.c.until < bindparam("before", type_=UtcDateTime()))
