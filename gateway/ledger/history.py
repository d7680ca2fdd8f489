"""What was asked and answered: listed by key and endpoint, shown, deleted, and retired when it is old."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, TextClause, and_, delete, exists, or_, select, update

from gateway.errors import PlatformError
from gateway.ledger.database import Database
from gateway.ledger.models import Answer, Outcome, Payload, Priority, State
from gateway.ledger.outbox import DeliveryState
from gateway.ledger.tables import LISTED, delivery, log, request
from gateway.ledger.transitions import platform_answer
from gateway.validation import whole_number

LOOKED_AT = 5_000  # requests for a page of those that ended in one way


class StillInProgress(PlatformError):
    """A request that is not DONE cannot be deleted: cancel it first."""

    def __init__(self) -> None:
        super().__init__("bad_request", "The request is still in progress; cancel it before you delete it.")


@dataclass(frozen=True, slots=True)
class Entry:
    """One request of a list. attempts: how often it was claimed; started_at: of the last one."""

    request_id: str
    key: str
    endpoint: str
    priority: Priority
    state: State
    outcome: Outcome | None
    error: str | None
    error_type: str | None
    attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, newest first. cursor: what to ask with for the older ones; None after the last."""

    entries: Sequence[Entry]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """One request with what went in and came out. work: `gateway.work.Work` as JSON has it. answer: of a DONE one.

    input: the client's own JSON; None where it was not stored. payload: whether input and output may be shown.
    """

    entry: Entry
    work: Any
    input: Any
    payload: Payload
    answer: Answer | None
    media: Sequence[str]


@dataclass(frozen=True, slots=True)
class Retired:
    """How many requests were deleted, and the keys of their files, which are the caller's to delete."""

    requests: int
    media: Sequence[str]


class SqlHistory:
    """The past of a ledger's database. Every method is one transaction; `key` None means the requests of all keys.

    Files are not the ledger's: what is deleted here says which they were.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self,
        key: str | None = None,
        endpoint: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
        *,
        states: Collection[State] = (),
        outcome: Outcome | None = None,
    ) -> Page:
        """Requests in all states, or in `states`, newest first. Raises ValueError for a cursor that no page has given.

        outcome: only those that ended so. They may be few among very many, so that a page looks at `LOOKED_AT` requests
        for them: it may have fewer than `limit`, even none, while its cursor leads on.
        """
        of_endpoint: ColumnElement[str] = request.c.endpoint
        seq: ColumnElement[int] = request.c.seq
        which: list[ColumnElement[bool] | TextClause] = [] if key is None else [request.c.key == key]
        if states and State.DONE not in states:
            # those are few, found by their state: by these columns SQLite would go through all that have ended too
            of_endpoint, seq = of_endpoint.concat(""), seq + 0
        else:
            which.append(LISTED)
        if endpoint is not None:
            which.append(of_endpoint == endpoint)
        if cursor is not None:
            if (before := whole_number(cursor, most=10**18 - 1)) is None:
                raise ValueError("this is no cursor of a page")
            which.append(seq < before)
        if states:
            which.append(_in(states))

        def find(connection: Connection) -> Page:
            wanted, last = which, 0  # last: up to where was looked; 0 for to the end
            if outcome is not None:
                nth = select(request.c.seq).where(*which).order_by(seq.desc()).offset(LOOKED_AT - 1).limit(1)
                last = connection.execute(nth).scalar() or 0
                wanted = [*which, request.c.outcome == outcome, seq >= last]
            newest = select(request.c.seq, *_ENTRY).where(*wanted).order_by(seq.desc()).limit(limit + 1)
            rows = connection.execute(newest).all()
            if len(rows) > limit:
                last = rows[limit - 1].seq
            return Page([_entry(row) for row in rows[:limit]], str(last) if last else None)

        return await self._database.read(find)

    async def show(self, request_id: str, key: str | None = None) -> Record | None:
        """A request, or None when it is unknown (or another key's)."""
        one = select(*_ENTRY, *_PAYLOAD).where(_named(request_id, key))
        row = await self._database.read(lambda connection: connection.execute(one).first())
        if row is None:
            return None
        answer = None
        if row.state == State.DONE:
            body, headers = json.loads(row.answer_body), json.loads(row.answer_headers)
            answer = Answer(row.answer_status, body, headers, row.error, row.error_type)
        given = None if row.input is None else json.loads(row.input)
        return Record(_entry(row), json.loads(row.work), given, Payload(row.payload), answer, _media(row))

    async def delete(self, request_id: str, key: str | None = None) -> Sequence[str] | None:
        """Delete a DONE request with its log, and its webhook where that is still owed; return its files' keys.

        None when it is unknown (or another key's). Raises StillInProgress.
        """
        gone = (
            delete(request)
            .where(_named(request_id, key), request.c.state == State.DONE)
            .returning(request.c.input_media, request.c.output_media)
        )

        def remove(connection: Connection) -> Sequence[str] | None:
            row = connection.execute(gone).first()
            if row is not None:
                return _media(row)
            if connection.execute(select(request.c.seq).where(_named(request_id, key))).first() is None:
                return None
            raise StillInProgress

        return await self._database.write(remove)

    async def retire(self, before: datetime, limit: int = 500) -> Retired:
        """Delete up to `limit` requests that were DONE before `before` and owe no webhook, with their logs.

        Call it again until it returns fewer than `limit`: writers wait for a batch, not for all of them.
        """
        old = (
            select(request.c.seq)
            .where(request.c.state == State.DONE, request.c.finished_at < before, ~_OWING)
            .order_by(request.c.finished_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("old")
        )
        gone = (
            delete(request)
            .where(request.c.seq.in_(select(old.c.seq)))
            .returning(request.c.input_media, request.c.output_media)
        )
        rows = await self._database.write(lambda connection: connection.execute(gone).all())
        return Retired(len(rows), [key for row in rows for key in _media(row)])

    async def forget(self, before: datetime, limit: int = 500) -> Retired:
        """Clear the input, the log, which tells of it, and the result of up to `limit` requests that were not to be
        stored and were DONE before `before`; their rows stay. Return the keys of their input files. Call it again as
        `retire`.
        """
        passing = (
            select(request.c.seq, request.c.input_media)
            .where(request.c.payload == Payload.PASSING, request.c.finished_at < before, ~_OWING)
            .order_by(request.c.finished_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        cleared = {
            "payload": Payload.GONE,
            "work": "null",
            "lines": 0,
            "input_media": "[]",
            "answer_status": _FORGOTTEN.status,
            "answer_body": json.dumps(_FORGOTTEN.body),
            "answer_headers": json.dumps(dict(_FORGOTTEN.headers)),
        }

        def clear(connection: Connection) -> Sequence[Any]:
            rows = connection.execute(passing).all()
            cleared_ones = [row.seq for row in rows]
            connection.execute(update(request).where(request.c.seq.in_(cleared_ones)).values(cleared))
            connection.execute(delete(log).where(log.c.request_seq.in_(cleared_ones)))
            return rows

        rows = await self._database.write(clear)
        return Retired(len(rows), [key for row in rows for key in json.loads(row.input_media)])


_OWING = exists().where(delivery.c.request_seq == request.c.seq, delivery.c.state == DeliveryState.WAITING)
_FORGOTTEN = platform_answer(PlatformError("bad_request", "The result is no longer stored.", status=404))

_ENTRY = (
    request.c.id,
    request.c.key,
    request.c.endpoint,
    request.c.priority,
    request.c.state,
    request.c.outcome,
    request.c.error,
    request.c.error_type,
    request.c.attempt,
    request.c.created_at,
    request.c.started_at,
    request.c.finished_at,
)
_PAYLOAD = (
    request.c.payload,
    request.c.work,
    request.c.input,
    request.c.answer_status,
    request.c.answer_body,
    request.c.answer_headers,
    request.c.input_media,
    request.c.output_media,
)


def _in(states: Collection[State]) -> ColumnElement[bool]:
    """DONE is told by an outcome: SQLite would gather nearly all by an index of states, to sort them for one page."""
    going = [state for state in states if state is not State.DONE]
    forms = [request.c.state.in_(going)] if going else []
    return or_(*forms, *([request.c.outcome.is_not(None)] if State.DONE in states else []))


def _named(request_id: str, key: str | None) -> ColumnElement[bool]:
    named = request.c.id == request_id
    return named if key is None else and_(named, request.c.key == key)


def _entry(row: Any) -> Entry:
    return Entry(
        request_id=row.id,
        key=row.key,
        endpoint=row.endpoint,
        priority=Priority(row.priority),
        state=State(row.state),
        outcome=None if row.outcome is None else Outcome(row.outcome),
        error=row.error,
        error_type=row.error_type,
        attempts=row.attempt,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def _media(row: Any) -> Sequence[str]:
    return [*json.loads(row.input_media), *json.loads(row.output_media)]
