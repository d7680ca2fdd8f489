"""Which waiting requests the next claim takes."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.ledger.base import State
from gateway.ledger.ending import HELD
from gateway.ledger.ordering import ORDER
from gateway.ledger.tables import request


async def choose(connection: AsyncConnection, count: int, now: datetime, at_once: Mapping[str, int]) -> Sequence[int]:
    """The seqs of up to `count` QUEUED requests, in order, locked. at_once: how many a key may have HELD in all."""
    room = await _room(connection, at_once)
    full = {key for key, left in room.items() if left <= 0}
    chosen: list[int] = []
    while True:
        wanted = count - len(chosen)
        first = (
            select(request.c.seq, request.c.key)
            .where(
                request.c.state == State.QUEUED,
                or_(request.c.start_by.is_(None), request.c.start_by > now),
                request.c.seq.not_in(chosen),
                request.c.key.not_in(sorted(full)),
            )
            .order_by(*ORDER)
            .limit(wanted)
            .with_for_update(skip_locked=True)
        )
        found = (await connection.execute(first)).all()
        for row in found:
            if row.key in room:
                if room[row.key] <= 0:
                    full.add(row.key)
                    continue
                room[row.key] -= 1
            chosen.append(row.seq)
        if len(chosen) == count or len(found) < wanted:
            return chosen


async def _room(connection: AsyncConnection, at_once: Mapping[str, int]) -> dict[str, int]:
    """How many requests more each of these keys may have held."""
    if not at_once:
        return {}
    counts = (
        select(request.c.key, func.count().label("number"))
        .where(HELD, request.c.key.in_(sorted(at_once)))
        .group_by(request.c.key)
    )
    held = {row.key: row.number for row in await connection.execute(counts)}
    return {key: most - held.get(key, 0) for key, most in at_once.items()}
