"""The ledger's statements, built once, to be read as a list: building one costs more than executing it. Those of the
past stand in `history`, those of webhooks in `outbox`.

A name in `bindparam` is what the caller gives. Each says which index it goes by, so that its cost stays flat.
"""

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    and_,
    bindparam,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    true,
    update,
)

from gateway.ledger.models import State
from gateway.ledger.tables import UtcDateTime, log, request, turn

QUEUED = request.c.state == State.QUEUED
HELD = request.c.state.in_((State.CLAIMED, State.RUNNING))
GOING = request.c.state.in_((State.QUEUED, State.CLAIMED, State.RUNNING))
LISTENED = request.c.listened_until.is_not(None)  # an end clears it

_NOW = bindparam("now", type_=UtcDateTime())

# Not begun by its deadline; a cancellation that was asked for goes before it.
LATE = and_(request.c.state.in_((State.QUEUED, State.CLAIMED)), request.c.start_by <= _NOW, ~request.c.cancel_requested)
# Its listener has gone without a word.
UNHEARD = and_(GOING, request.c.listened_until < _NOW)
# What `Ledger.expire` has work with.
EXPIRED = or_(and_(HELD, request.c.lease_until < _NOW), LATE, UNHEARD)
# The row of a claim as long as nobody else has taken or ended it.
_FENCE = (
    request.c.id == bindparam("of_id"),
    request.c.owner == bindparam("by"),
    request.c.attempt == bindparam("of_attempt"),
    HELD,
)

# What waits is claimed in this order (request_claim).
RANK = (request.c.priority, request.c.turn, request.c.seq)


def _at_most(*which: ColumnElement[bool]) -> Select[int]:
    """How many rows there are, read no further than to the number `most`."""
    some = select(request.c.seq).where(*which).limit(bindparam("most", type_=Integer)).subquery()
    return select(func.count()).select_from(some)


# --- Submitting, under the lock of those who submit ---

# The first submission under an idempotency key (request_idempotency).
REPEATED = select(request.c.id, request.c.fingerprint, request.c.app, request.c.state, *RANK).where(
    request.c.key == bindparam("of_key"),
    request.c.endpoint == bindparam("of_endpoint"),
    request.c.idempotency_key == bindparam("repeats"),
)

# What a new request is placed by, one row, each value a step into an index. claimed: the last turn of its key that was
# claimed; round: of its priority; last: the last turn of what its key has waiting (request_of_key). newest: the
# greatest seq; waits: whether anything does.
_OF_KEY = request.c.key == bindparam("of_key"), request.c.priority == bindparam("of_priority")
PLACING = select(
    select(turn.c.claimed)
    .where(turn.c.priority == bindparam("of_priority"), turn.c.key == bindparam("of_key"))
    .scalar_subquery()
    .label("claimed"),
    select(func.max(turn.c.claimed))
    .where(turn.c.priority == bindparam("of_priority"))
    .scalar_subquery()
    .label("round"),
    select(func.max(request.c.turn)).where(*_OF_KEY, QUEUED).scalar_subquery().label("last"),
    select(func.max(request.c.seq)).scalar_subquery().label("newest"),
    exists().where(QUEUED).label("waits"),
)

# How many there are that are not DONE; asked only where a limit may be reached (request_claim, request_of_key).
COUNT_STATES = select(request.c.state, func.count().label("number")).where(GOING).group_by(request.c.state)
COUNT_STATES_OF_KEY = COUNT_STATES.where(request.c.key == bindparam("of_key"))

# Counts that are compared with a number which is mostly small (request_claim, request_open, request_of_key).
COUNT_WAITING = _at_most(QUEUED)
COUNT_OPEN = _at_most(request.c.key == bindparam("of_key"), LISTENED)
COUNT_HELD = _at_most(request.c.key == bindparam("of_key"), HELD)

ADD = insert(request).returning(request.c.seq)
ADD_TURN = insert(turn)

# The rounds go on after a claim.
CLAIMED_TURN = (
    update(turn)
    .where(turn.c.priority == bindparam("of_priority"), turn.c.key == bindparam("of_key"))
    .where(turn.c.claimed < bindparam("to"))
    .values(claimed=bindparam("to"))
)

# --- Claiming ---

WAITS = select(exists().where(QUEUED))
WAITS_BESIDES = select(exists().where(QUEUED, request.c.key.not_in(bindparam("keys", expanding=True))))
DEPTH = select(func.count()).select_from(request).where(QUEUED)
HELD_BY_KEY = select(request.c.key, func.count().label("number")).where(HELD).group_by(request.c.key)

# What there is to do, asked about once a second, from an index that has all of it (request_demand). Its condition is
# written as the index has it, without which SQLite would not take it.
DEMAND = (
    select(
        request.c.state,
        request.c.priority,
        func.count().label("number"),
        func.sum(request.c.row_steps).label("row_steps"),
        func.min(request.c.created_at).label("oldest"),
    )
    .where(text("state <> 'done'"))
    .group_by(request.c.state, request.c.priority)
)

# What came behind a number, in its order (the primary key).
ARRIVED = select(
    select(func.max(request.c.seq)).scalar_subquery().label("newest"),
    select(func.sum(request.c.row_steps))
    .where(request.c.seq > bindparam("behind"))
    .scalar_subquery()
    .label("row_steps"),
)

# The rows that are chosen become an owner's.
CLAIM = (
    update(request)
    .where(request.c.seq.in_(bindparam("chosen", expanding=True)))
    .values(
        state=State.CLAIMED,
        owner=bindparam("by"),
        lease_until=bindparam("until"),
        attempt=request.c.attempt + 1,
    )
    .returning(*RANK, request.c.key, request.c.attempt, request.c.work, request.c.created_at)
)

# The first that wait and may be taken. past: keys that may have no more. besides: seqs that are chosen already.
FIRST = (
    select(request.c.seq, request.c.key)
    .where(
        QUEUED,
        or_(request.c.start_by.is_(None), request.c.start_by > _NOW),
        request.c.seq.not_in(bindparam("besides", expanding=True)),
        request.c.key.not_in(bindparam("past", expanding=True)),
    )
    .order_by(*RANK)
    .limit(bindparam("most", type_=Integer))
    .with_for_update(skip_locked=True)
)

# --- Keeping ---

# By ascending seq, as all who lock several rows do (request_owner, request_listener).
HELD_BY_OWNER = (
    select(request.c.seq, request.c.id, request.c.attempt, request.c.cancel_requested)
    .where(HELD, request.c.owner == bindparam("by"))
    .order_by(request.c.seq)
    .with_for_update()
)
LISTENED_TO = (
    select(request.c.seq)
    .where(request.c.listener == bindparam("by"), GOING, request.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(request.c.seq)
    .with_for_update()
)
_THESE = request.c.seq.in_(bindparam("seqs", expanding=True))
EXTEND_LEASES = update(request).where(_THESE).values(lease_until=bindparam("until"))
EXTEND_LISTENING = update(request).where(_THESE).values(listened_until=bindparam("until"))

# Where its time to start is not over.
BEGIN = (
    update(request)
    .where(
        *_FENCE,
        or_(
            request.c.state == State.RUNNING,
            request.c.start_by.is_(None),
            request.c.start_by > _NOW,
            request.c.cancel_requested,
        ),
    )
    .values(state=State.RUNNING, started_at=func.coalesce(request.c.started_at, _NOW))
)

# The numbers of the next lines of a log.
_COUNTED = (
    update(request)
    .values(lines=request.c.lines + bindparam("said", type_=Integer))
    .returning(request.c.seq, request.c.lines)
)
COUNT_LINES = _COUNTED.where(request.c.seq == bindparam("this"))
COUNT_LINES_OF_CLAIM = _COUNTED.where(*_FENCE)
ADD_LINES = insert(log)

# --- Leaving an owner ---

# To be told the outcome and the answer, by the names of their columns.
_END = (
    update(request)
    .where(request.c.state != State.DONE)
    .values(
        state=State.DONE,
        lease_until=None,
        listened_until=None,
        lines=request.c.lines + bindparam("said", type_=Integer),
    )
    .returning(request.c.seq, request.c.lines, request.c.webhook)
)
END = _END.where(request.c.seq == bindparam("this"))
END_CLAIM = _END.where(*_FENCE)
END_LATE_CLAIM = END_CLAIM.where(LATE)
END_LISTENED = _END.where(request.c.id == bindparam("of_id"), request.c.listener == bindparam("by"))
END_UNBEGUN = END_LISTENED.where(request.c.state != State.RUNNING)

# Locked, so that what is decided about them stays right.
_RELEASING = select(
    request.c.seq,
    request.c.cancel_requested,
    request.c.sync,
    request.c.listener,
    request.c.start_by,
    request.c.may_retry,
    request.c.retries,
    request.c.crashes,
    LATE.label("late"),
    UNHEARD.label("unheard"),
).order_by(request.c.seq)
RELEASING = _RELEASING.where(*_FENCE).with_for_update()
RELEASING_EXPIRED = _RELEASING.where(EXPIRED).with_for_update(skip_locked=True)
ANY_EXPIRED = select(request.c.seq).where(EXPIRED).limit(1)

# The attempt stays: it fences the lost owner out until the next claim counts on.
PUT_BACK = (
    update(request)
    .where(request.c.seq == bindparam("this"))
    .values(state=State.QUEUED, owner=None, lease_until=None, started_at=None)
)

# --- Asking (by the unique id) ---

_NAMED = request.c.id == bindparam("named"), request.c.app == bindparam("of_app")

# Asked ten times a second by every waiting client; its columns stand before the large ones.
_STATUS = (
    request.c.id,
    request.c.app,
    request.c.key,
    request.c.state,
    *RANK,
    request.c.outcome,
    request.c.error,
    request.c.error_type,
    request.c.started_at,
    request.c.finished_at,
    request.c.lines,
)
STATUS = select(*_STATUS).where(*_NAMED)
STATUSES = select(*_STATUS).where(request.c.id.in_(bindparam("ids", expanding=True)))

# All that is not begun, for the positions of all (request_claim).
ORDER_OF_QUEUE = (
    select(request.c.app, request.c.state, *RANK)
    .where(request.c.state.in_((State.CLAIMED, State.QUEUED)))
    .order_by(request.c.state, *RANK)
)

ANSWER = select(
    request.c.key,
    request.c.answer_status,
    request.c.answer_body,
    request.c.answer_headers,
    request.c.error,
    request.c.error_type,
).where(*_NAMED, request.c.state == State.DONE)
TO_CANCEL = (
    select(request.c.seq, request.c.state, request.c.key, request.c.priority, request.c.turn)
    .where(*_NAMED)
    .with_for_update()
)
FLAG_CANCELLATION = update(request).where(request.c.seq == bindparam("this")).values(cancel_requested=true())
LOGS = (
    select(log.c.number, log.c.at, log.c.level, log.c.message)
    .join(request, request.c.seq == log.c.request_seq)
    .where(request.c.id == bindparam("named"), log.c.number > bindparam("after"))
    .order_by(log.c.number)
)
