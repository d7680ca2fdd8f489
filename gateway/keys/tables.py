"""The keys' tables, in the ledger's database."""

from sqlalchemy import BigInteger, Column, Date, ForeignKey, Integer, String, Table

from gateway.ledger.tables import UtcDateTime, metadata

api_key = Table(
    "api_key",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    # SHA-256 in hex. A secret has 256 random bits, so that nothing slower would protect it better.
    Column("secret_hash", String(64), nullable=False),
    # the secret before the last rotation, and how long it still counts
    Column("previous_hash", String(64)),
    Column("previous_until", UtcDateTime),
    Column("scopes", String(64), nullable=False),
    Column("concurrency", Integer),
    Column("queue_length", Integer),
    Column("pixel_steps", BigInteger),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
)

api_key_usage = Table(
    "api_key_usage",
    metadata,
    Column("key", String(64), ForeignKey("api_key.id", ondelete="CASCADE"), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("pixel_steps", BigInteger, nullable=False),
)
