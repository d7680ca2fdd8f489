"""The ledger's tables, in types that SQLite and PostgreSQL share."""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An instant, stored without a zone as UTC, so that every database compares it alike."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class Name(TypeDecorator[str]):
    """A text that clients ask with. One with a zero in it names nothing, where PostgreSQL would fail on it."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        return None if value is None else value.replace("\0", "\ufffd")


# SQLite numbers rows by itself only when the key is spelt INTEGER.
_Sequence = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

_OPEN = text("listened_until IS NOT NULL")
_GOING = text("state <> 'done'")
# Of each row; but only a statement that says so too is answered by an index of these, and no other one by mistake.
LISTED = text("seq > 0")

request = Table(
    "request",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("id", Name(64), nullable=False, unique=True),
    Column("app", Name(128), nullable=False),
    Column("endpoint", Name(256), nullable=False),
    # Whose request it is: the id of an API key, empty where the service is open.
    Column("key", Name(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("outcome", String(16)),
    Column("priority", SmallInteger, nullable=False),
    # The place among the keys of a priority: what waits is claimed by (priority, turn, seq).
    Column("turn", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("retries", SmallInteger, nullable=False),
    Column("crashes", SmallInteger, nullable=False),
    Column("may_retry", Boolean, nullable=False),
    Column("payload", String(8), nullable=False),
    Column("owner", String(128)),
    Column("lease_until", UtcDateTime),
    Column("cancel_requested", Boolean, nullable=False),
    # A sync run: its client waits for it in one call. Without a listener it was born claimed by an earlier version.
    Column("sync", Boolean, nullable=False),
    # Which gateway holds that call, and until when it has said so: without it nobody wants the result.
    Column("listener", String(128)),
    Column("listened_until", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("start_by", UtcDateTime),
    # How many log lines it has: their numbers are given out here, under the lock of the row.
    Column("lines", Integer, nullable=False),
    # What drawing it costs (`pipelines.row_steps`); 0 of what an earlier version submitted.
    Column("row_steps", Float, nullable=False, server_default=text("0")),
    Column("idempotency_key", String(255)),
    Column("fingerprint", String(64)),
    Column("answer_status", SmallInteger),
    Column("error", Text),
    Column("error_type", String(64)),
    # What can be large stands last: SQLite would walk through it to reach a column behind it.
    Column("webhook", Text),
    Column("input_media", Text, nullable=False),
    Column("output_media", Text, nullable=False),
    Column("answer_headers", Text),
    Column("work", Text, nullable=False),
    # As the client sent it, without inline pictures; none where it may not be stored.
    Column("input", Text),
    Column("answer_body", Text),
    Index("request_claim", "state", "priority", "turn", "seq"),
    Index("request_lease", "state", "lease_until"),
    Index("request_start_by", "state", "start_by"),
    Index("request_owner", "owner", "state"),
    Index("request_listener", "listener", "state"),
    Index("request_listened_until", "state", "listened_until"),
    Index("request_of_key", "key", "state", "priority", "turn"),
    Index("request_history", "key", "endpoint", "seq"),
    Index("request_by_key", "key", "seq", sqlite_where=LISTED, postgresql_where=LISTED),
    Index("request_by_endpoint", "endpoint", "seq", sqlite_where=LISTED, postgresql_where=LISTED),
    Index("request_finished", "state", "finished_at"),
    Index("request_payload", "payload", "finished_at"),
    # Of sync runs whose clients wait: few, of many that have ended.
    Index("request_open", "key", sqlite_where=_OPEN, postgresql_where=_OPEN),
    # Of what is to be done, all that is added up of it: the rows themselves are not read.
    Index(
        "request_demand",
        *("state", "priority", "created_at", "row_steps"),
        sqlite_where=_GOING,
        postgresql_where=_GOING,
    ),
    Index("request_idempotency", "key", "endpoint", "idempotency_key", unique=True),
    sqlite_autoincrement=True,
)

log = Table(
    "log",
    metadata,
    Column("request_seq", _Sequence, ForeignKey("request.seq", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("level", String(16), nullable=False),
    Column("message", Text, nullable=False),
)

# One row for each key that has ever queued something in a priority.
# claimed: the greatest turn of its requests that was claimed; the greatest of a priority is that priority's round.
turn = Table(
    "turn",
    metadata,
    Column("priority", SmallInteger, primary_key=True, autoincrement=False),
    Column("key", String(64), primary_key=True),
    Column("claimed", BigInteger, nullable=False),
    Index("turn_round", "priority", "claimed"),
)

# The outbox: one row for each webhook that is owed, written in the transaction that completes its request.
delivery = Table(
    "delivery",
    metadata,
    Column(
        "request_seq", _Sequence, ForeignKey("request.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False
    ),
    Column("state", String(16), nullable=False),
    Column("attempt", SmallInteger, nullable=False),
    Column("owner", String(128)),
    # While WAITING: not before this; when held, the end of the lease.
    Column("next_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("error", Text),
    Index("delivery_due", "state", "next_at"),
)

# One row for each service that has a dispatcher: which of them leads, and until when it has said so.
leader = Table(
    "leader",
    metadata,
    Column("service", String(255), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("until", UtcDateTime, nullable=False),
)
