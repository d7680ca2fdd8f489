"""The ledger's tables, in types that SQLite and PostgreSQL share."""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
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


# SQLite numbers rows by itself only when the key is spelt INTEGER.
_Sequence = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

request = Table(
    "request",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("app", String(128), nullable=False),
    Column("endpoint", String(256), nullable=False),
    Column("state", String(16), nullable=False),
    Column("outcome", String(16)),
    Column("priority", SmallInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("owner", String(128)),
    Column("lease_until", UtcDateTime),
    Column("cancel_requested", Boolean, nullable=False),
    # Born claimed by the replica that holds the client's connection: it is never queued again.
    Column("sync", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("answer_status", SmallInteger),
    Column("error", Text),
    Column("error_type", String(64)),
    # What can be large stands last: SQLite would walk through it to reach a column behind it.
    Column("answer_headers", Text),
    Column("work", Text, nullable=False),
    Column("answer_body", Text),
    Index("request_claim", "state", "priority", "seq"),
    Index("request_position", "app", "state", "priority", "seq"),
    Index("request_lease", "state", "lease_until"),
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
