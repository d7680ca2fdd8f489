"""The statements by which a request's row is born, begun, written to, and leaves its owner."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, insert, or_, select, update

from gateway.errors import PlatformError
from gateway.ledger.models import Answer, Claim, Limits, Outcome, Payload, Place, ReleaseOutcome, State, Terms
from gateway.ledger.outbox import DeliveryState
from gateway.ledger.statements import ADD, GOING, HELD
from gateway.ledger.tables import delivery, log, request
from gateway.work import Work
from pipelines.row_steps import row_steps_of

Lines = Sequence[tuple[str, str]]  # (level, message) of a log


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a request is taken from its owner. counts: towards the limit of retries. crashed: it took a replica down."""

    answer: Answer
    counts: bool = True
    crashed: bool = False


def fence(claim: Claim) -> ColumnElement[bool]:
    """True for the row of `claim` as long as nobody else has taken or ended it."""
    return and_(
        request.c.id == claim.work.request_id,
        request.c.owner == claim.owner,
        request.c.attempt == claim.attempt,
        HELD,
    )


def late(now: datetime) -> ColumnElement[bool]:
    """True for rows that have not begun by their deadline; a cancellation that was asked for goes before it."""
    return and_(
        request.c.state.in_((State.QUEUED, State.CLAIMED)), request.c.start_by <= now, ~request.c.cancel_requested
    )


def in_time(now: datetime) -> ColumnElement[bool]:
    """True for rows that are not `late`."""
    return or_(
        request.c.state == State.RUNNING,
        request.c.start_by.is_(None),
        request.c.start_by > now,
        request.c.cancel_requested,
    )


def unheard(now: datetime) -> ColumnElement[bool]:
    """True for rows whose listener has gone without a word."""
    return and_(GOING, request.c.listened_until < now)


def end(
    connection: Connection,
    which: ColumnElement[bool],
    outcome: Outcome,
    answer: Answer,
    now: datetime,
    media: Sequence[str] = (),
    lines: Lines = (),
) -> int:
    """Complete the rows that `which` names, as far as they are not DONE, and owe their webhooks; return how many.

    lines: the last ones of their logs.
    """
    longer = {"lines": request.c.lines + len(lines)} if lines else {}
    done = (
        update(request)
        .where(which, request.c.state != State.DONE)
        .values(
            state=State.DONE,
            outcome=outcome,
            lease_until=None,
            listened_until=None,
            finished_at=now,
            answer_status=answer.status,
            answer_body=json.dumps(answer.body),
            answer_headers=json.dumps(dict(answer.headers)),
            error=answer.error and storable(answer.error),
            error_type=answer.error_type,
            output_media=json.dumps(list(media)),
            **longer,
        )
        .returning(request.c.seq, request.c.lines, request.c.webhook)
    )
    rows = connection.execute(done).all()
    for row in rows:
        _add_lines(connection, row.seq, row.lines, lines, now)
    owed = [
        {"request_seq": row.seq, "state": DeliveryState.WAITING, "attempt": 0, "next_at": now}
        for row in rows
        if row.webhook is not None
    ]
    if owed:
        connection.execute(insert(delivery), owed)
    return len(rows)


def to_release(which: ColumnElement[bool], now: datetime, skip_locked: bool = False) -> Select[Any]:
    """Rows for `release`, locked, so that what is decided about them stays right. skip_locked: leave those in use."""
    of_client = (request.c.cancel_requested, request.c.sync, request.c.listener, request.c.start_by)
    counts = (request.c.may_retry, request.c.retries, request.c.crashes)
    columns = (request.c.seq, *of_client, *counts, late(now).label("late"), unheard(now).label("unheard"))
    return select(*columns).where(which).order_by(request.c.seq).with_for_update(skip_locked=skip_locked)


def release(connection: Connection, row: Any, fault: Fault, limits: Limits, now: datetime) -> ReleaseOutcome:
    """Take a row of `to_release` from its owner.

    It ends where its cancellation was asked, where nobody listens to it any more (a sync run), where its time to start
    is over, or with the fault where that was the last it may have; else it waits again, at its old place.
    """
    outcome, answer = Outcome.ERROR, None
    retries, crashes = row.retries + fault.counts, row.crashes + fault.crashed
    if row.cancel_requested:
        outcome, answer = Outcome.CANCELLED, cancelled_answer()
    elif row.unheard:
        outcome, answer = Outcome.CANCELLED, left_answer()
    elif (
        (row.sync and row.listener is None)
        or (fault.counts and not row.may_retry)
        or retries > limits.retries
        or crashes >= limits.crashes
    ):
        answer = fault.answer
    elif row.start_by is not None and row.start_by <= now:
        answer = late_answer()
    if answer is not None:
        end(connection, request.c.seq == row.seq, outcome, answer, now)
        return ReleaseOutcome.ENDED
    # The attempt stays: it fences the lost owner out until the next claim counts on.
    waiting: Mapping[str, Any] = {"state": State.QUEUED, "owner": None, "lease_until": None, "started_at": None}
    again = update(request).where(request.c.seq == row.seq).values(**waiting, retries=retries, crashes=crashes)
    connection.execute(again)
    return ReleaseOutcome.QUEUED


def expired(now: datetime) -> ColumnElement[bool]:
    """True for what `expire` has work with."""
    return or_(and_(HELD, request.c.lease_until < now), late(now), unheard(now))


def storable(text: str) -> str:
    """`text` without what PostgreSQL does not take: NUL, and halves of characters. It may hold a client's words."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")


def platform_answer(error: PlatformError) -> Answer:
    return Answer(error.status, error.body(), error.headers(), error=error.detail, error_type=error.error_type)


def cancelled_answer() -> Answer:
    return platform_answer(PlatformError("client_cancelled", "Request was cancelled by the client"))


def left_answer() -> Answer:
    return platform_answer(PlatformError("client_disconnected", "The client left before the request was finished."))


def lost_answer() -> Answer:
    return platform_answer(PlatformError("runner_disconnected", "The process that ran this request was lost."))


def late_answer() -> Answer:
    """fal-protocol 7.1: the client's own deadline, which its libraries do not retry."""
    answer = platform_answer(PlatformError("request_timeout", "The request did not start within its timeout."))
    headers = {**answer.headers, "x-fal-request-timeout-type": "user"}
    return Answer(answer.status, answer.body, headers, answer.error, answer.error_type)


def add(
    connection: Connection, work: Work, app: str, terms: Terms, turn: int, now: datetime, place: Place | None = None
) -> int:
    """A new row, QUEUED, or held in `place`; return its seq. turn: its place among the keys."""
    return int(connection.execute(ADD, _new_row(work, app, terms, turn, now, place)).scalar_one())


def first_state(terms: Terms, place: Place | None) -> State:
    """Whose deadline is to start has not started before its runner says so; others begin with their place."""
    if place is None:
        return State.QUEUED
    return State.RUNNING if terms.start_within_s is None else State.CLAIMED


def _new_row(work: Work, app: str, terms: Terms, turn: int, now: datetime, place: Place | None) -> Mapping[str, Any]:
    state = first_state(terms, place)
    return {
        "id": work.request_id,
        "app": app,
        "endpoint": work.endpoint,
        "key": terms.key,
        "work": work.model_dump_json(),
        "state": state,
        "turn": turn,
        "attempt": 0 if place is None else 1,
        "owner": None if place is None else place.owner,
        "lease_until": None if place is None else now + timedelta(seconds=place.lease_s),
        "started_at": now if state is State.RUNNING else None,
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
        "start_by": None if terms.start_within_s is None else now + timedelta(seconds=terms.start_within_s),
        "lines": 0,
        "row_steps": row_steps_of(work.spec),
        "idempotency_key": terms.idempotency and terms.idempotency.key,
        "fingerprint": terms.idempotency and terms.idempotency.fingerprint,
        "webhook": terms.webhook,
        "input_media": json.dumps(list(terms.media)),
        "output_media": "[]",
    }


def begin(connection: Connection, claim: Claim, now: datetime) -> bool:
    """Mark a held row as RUNNING. False where the claim was lost, or its time to start is over, which ends it."""
    begun = (
        update(request)
        .where(fence(claim), in_time(now))
        .values(state=State.RUNNING, started_at=func.coalesce(request.c.started_at, now))
    )
    if connection.execute(begun).rowcount:
        return True
    end(connection, and_(fence(claim), late(now)), Outcome.ERROR, late_answer(), now)
    return False


def append_lines(connection: Connection, which: ColumnElement[bool], lines: Lines, now: datetime) -> None:
    """Append to the log of the one row that `which` names, or to none."""
    if not lines:
        return
    counted = (
        update(request)
        .where(which)
        .values(lines=request.c.lines + len(lines))
        .returning(request.c.seq, request.c.lines)
    )
    if (row := connection.execute(counted).first()) is not None:
        _add_lines(connection, row.seq, row.lines, lines, now)


def _add_lines(connection: Connection, seq: int, last: int, lines: Lines, now: datetime) -> None:
    """Write lines whose numbers the row has counted already, up to `last`."""
    entries = [
        {"request_seq": seq, "number": number, "at": now, "level": level, "message": storable(message)}
        for number, (level, message) in enumerate(lines, last - len(lines) + 1)
    ]
    if entries:
        connection.execute(insert(log), entries)
