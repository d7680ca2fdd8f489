"""The statements that a request's row is born, begun and written to with."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, update

from gateway.ledger.base import Payload, State, Terms
from gateway.ledger.ending import HELD, storable
from gateway.ledger.tables import log, request
from gateway.work import Work


def add(connection: Connection, work: Work, app: str, terms: Terms, turn: int, now: datetime) -> int:
    """A new row, QUEUED; return its seq. turn: its place among the keys."""
    start_by = None if terms.start_within_s is None else now + timedelta(seconds=terms.start_within_s)
    values: Mapping[str, Any] = {
        "id": work.request_id,
        "app": app,
        "endpoint": work.endpoint,
        "key": terms.key,
        "work": work.model_dump_json(),
        "state": State.QUEUED,
        "turn": turn,
        "attempt": 0,
        "sync": terms.listener is not None,
        "listener": terms.listener,
        "listened_until": None if terms.listener is None else now + timedelta(seconds=terms.listen_s),
        "priority": terms.priority,
        "retries": 0,
        "crashes": 0,
        "may_retry": terms.may_retry,
        "payload": Payload.KEPT if terms.store_io else Payload.PASSING,
        "input": terms.input if terms.store_io else None,
        "cancel_requested": False,
        "created_at": now,
        "start_by": start_by,
        "lines": 0,
        "idempotency_key": terms.idempotency and terms.idempotency.key,
        "fingerprint": terms.idempotency and terms.idempotency.fingerprint,
        "webhook": terms.webhook,
        "input_media": json.dumps(list(terms.media)),
        "output_media": "[]",
    }
    return int(connection.execute(_ADDED, values).scalar_one())


_ADDED = insert(request).returning(request.c.seq)


def start(connection: Connection, which: ColumnElement[bool], now: datetime) -> int:
    """Mark held rows as RUNNING; return how many there were."""
    begun = {"state": State.RUNNING, "started_at": func.coalesce(request.c.started_at, now)}
    return (connection.execute(update(request).where(which, HELD).values(begun))).rowcount


def append_lines(
    connection: Connection, which: ColumnElement[bool], lines: Sequence[tuple[str, str]], now: datetime
) -> None:
    """Append to the log of the one row that `which` names, or to none."""
    if not lines:
        return
    counted = (
        update(request)
        .where(which)
        .values(lines=request.c.lines + len(lines))
        .returning(request.c.seq, request.c.lines)
    )
    row = (connection.execute(counted)).first()
    if row is None:
        return
    entries = [
        {"request_seq": row.seq, "number": number, "at": now, "level": level, "message": storable(message)}
        for number, (level, message) in enumerate(lines, row.lines - len(lines) + 1)
    ]
    connection.execute(insert(log), entries)
