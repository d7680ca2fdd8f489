"""The statements by which a request's row is born, begun, written to, and leaves its owner."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert
from sqlalchemy.sql.dml import ReturningUpdate

from gateway.errors import PlatformError
from gateway.ledger.models import Answer, Claim, Limits, Outcome, Payload, Place, ReleaseOutcome, State, Terms
from gateway.ledger.outbox import DeliveryState
from gateway.ledger.statements import (
    ADD,
    ADD_LINES,
    BEGIN,
    COUNT_LINES,
    COUNT_LINES_OF_CLAIM,
    END,
    END_LATE_CLAIM,
    PUT_BACK,
)
from gateway.ledger.tables import delivery
from gateway.work import Work
from pipelines.row_steps import row_steps_of

Lines = Sequence[tuple[str, str]]  # (level, message) of a log


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a request is taken from its owner. counts: towards the limit of retries. crashed: it took a replica down."""

    answer: Answer
    counts: bool = True
    crashed: bool = False


def fence(claim: Claim) -> Mapping[str, Any]:
    """What names the row of a claim in the statements that are fenced."""
    return {"of_id": claim.work.request_id, "by": claim.owner, "of_attempt": claim.attempt}


def end(
    connection: Connection,
    ending: ReturningUpdate[Any],
    named: Mapping[str, Any],
    outcome: Outcome,
    answer: Answer,
    now: datetime,
    media: Sequence[str] = (),
    lines: Lines = (),
) -> int:
    """Complete the rows that `ending`, one of the ledger's statements, takes, and owe their webhooks; return how many.

    named: what it names them by. lines: the last ones of their logs.
    """
    told = {
        "outcome": outcome,
        "finished_at": now,
        "answer_status": answer.status,
        "answer_body": json.dumps(answer.body),
        "answer_headers": json.dumps(dict(answer.headers)),
        "error": answer.error and storable(answer.error),
        "error_type": answer.error_type,
        "output_media": json.dumps(list(media)),
    }
    rows = connection.execute(ending, {**told, **named, "said": len(lines)}).all()
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


def end_row(connection: Connection, seq: int, outcome: Outcome, answer: Answer, now: datetime) -> None:
    """Complete a row, if it is not DONE."""
    end(connection, END, {"this": seq}, outcome, answer, now)


def release(connection: Connection, row: Any, fault: Fault, limits: Limits, now: datetime) -> ReleaseOutcome:
    """Take a row of `RELEASING` from its owner.

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
        end_row(connection, row.seq, outcome, answer, now)
        return ReleaseOutcome.ENDED
    connection.execute(PUT_BACK, {"this": row.seq, "retries": retries, "crashes": crashes})
    return ReleaseOutcome.QUEUED


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
    named = {**fence(claim), "now": now}
    if connection.execute(BEGIN, named).rowcount:
        return True
    end(connection, END_LATE_CLAIM, named, Outcome.ERROR, late_answer(), now)
    return False


def append_lines(connection: Connection, seq: int, lines: Lines, now: datetime) -> None:
    """Append to the log of a row."""
    _append(connection, COUNT_LINES, {"this": seq}, lines, now)


def append_lines_of(connection: Connection, claim: Claim, lines: Lines, now: datetime) -> None:
    """Append to the log of what is held by the claim; nothing where it was lost."""
    _append(connection, COUNT_LINES_OF_CLAIM, fence(claim), lines, now)


def _append(
    connection: Connection, counting: ReturningUpdate[Any], named: Mapping[str, Any], lines: Lines, now: datetime
) -> None:
    if lines and (row := connection.execute(counting, {**named, "said": len(lines)}).first()) is not None:
        _add_lines(connection, row.seq, row.lines, lines, now)


def _add_lines(connection: Connection, seq: int, last: int, lines: Lines, now: datetime) -> None:
    """Write lines whose numbers the row has counted already, up to `last`."""
    entries = [
        {"request_seq": seq, "number": number, "at": now, "level": level, "message": storable(message)}
        for number, (level, message) in enumerate(lines, last - len(lines) + 1)
    ]
    if entries:
        connection.execute(ADD_LINES, entries)
