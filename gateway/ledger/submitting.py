"""A submission in its transaction: known already, refused, queued at its turn, or held at once in a free place."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from gateway.ledger.admission import Admission, Counts, may_hold_one_more
from gateway.ledger.database import CLAIMING, SUBMITTING, take_lock
from gateway.ledger.fetch import note_claimed, note_submitted
from gateway.ledger.models import Claim, IdempotencyConflict, Place, State, Terms
from gateway.ledger.order import next_turn
from gateway.ledger.positions import Rank
from gateway.ledger.statements import PLACING, REPEATED
from gateway.ledger.transitions import add, first_state
from gateway.work import Work


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission. repeated: nothing was added, for it was known. counts: to be remembered."""

    request_id: str
    app: str
    state: State
    rank: Rank
    repeated: bool = False
    claim: Claim | None = None
    counts: Counts = field(default_factory=dict)


def submit_request(
    connection: Connection,
    admission: Admission,
    work: Work,
    app: str,
    terms: Terms,
    place: Place | None,
    clock: Callable[[], datetime],
) -> Submitted:
    """Add a request. Raises TooMany and IdempotencyConflict.

    place: taken where nothing waits, for nothing may be passed, and where its key may have one more at once.
    """
    take_lock(connection, SUBMITTING)
    if (known := find_repeated(connection, work, terms)) is not None:
        return known
    if place is not None and place.at_once.limits:
        take_lock(connection, CLAIMING)  # what is counted for the key stays true until this is counted too
    found = connection.execute(PLACING, {"of_key": terms.key, "of_priority": terms.priority}).one()
    counts = admission.admit(connection, terms, found.newest or 0)
    if place is not None and (found.waits or not may_hold_one_more(connection, terms.key, place.at_once)):
        place = None
    turn = next_turn(found.claimed, found.round, found.last)
    if found.claimed is None:
        note_submitted(connection, terms.priority, terms.key, None if place is None else turn)
    elif place is not None:
        note_claimed(connection, [(terms.priority, terms.key, turn)])
    seq = add(connection, work, app, terms, turn, clock(), place)
    state, rank = first_state(terms, place), (int(terms.priority), turn, seq)
    claim = None if place is None else Claim(work, place.owner, 1, begun=state is State.RUNNING, rank=rank)
    return Submitted(work.request_id, app, state, rank, claim=claim, counts=counts)


def find_repeated(connection: Connection, work: Work, terms: Terms) -> Submitted | None:
    """The first submission under the idempotency key of `terms`. Raises IdempotencyConflict."""
    if terms.idempotency is None:
        return None
    same = {"of_key": terms.key, "of_endpoint": work.endpoint, "repeats": terms.idempotency.key}
    row = connection.execute(REPEATED, same).first()
    if row is None:
        return None
    if row.fingerprint != terms.idempotency.fingerprint:
        raise IdempotencyConflict
    return Submitted(row.id, row.app, State(row.state), (row.priority, row.turn, row.seq), repeated=True)
