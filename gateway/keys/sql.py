"""The keys in the ledger's database."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Date,
    ForeignKey,
    Integer,
    Row,
    String,
    Table,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from gateway.keys.base import Issued, Key, KeyLimits, Scope
from gateway.ledger.database import Database
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


_CREDENTIALS = re.compile(r"([0-9a-f]{16}):([A-Za-z0-9_-]{43})")
_NO_HASH = "0" * 64  # no secret's


def _now() -> datetime:
    return datetime.now(UTC)


class SqlKeys:
    """`gateway.keys.base.Keys` in a database. clock: UTC."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = _now) -> None:
        self._database, self._clock = database, clock

    @classmethod
    async def open(cls, url: str, backups: Path | None = None) -> "SqlKeys":
        """The keys in the ledger's database at `url` (see `Database.open`), on connections of their own."""
        return cls(await Database.open(url, backups))

    async def close(self) -> None:
        await self._database.close()

    async def create(
        self, name: str, scopes: Collection[Scope], limits: KeyLimits, expires_at: datetime | None = None
    ) -> Issued:
        key = Key(secrets.token_hex(8), name, frozenset(scopes), limits, self._clock(), expires_at)
        secret = _secret()
        row = {
            "id": key.id,
            "name": name,
            "secret_hash": _hashed(secret),
            "scopes": " ".join(sorted(key.scopes)),
            "concurrency": limits.concurrency,
            "queue_length": limits.queue_length,
            "pixel_steps": limits.pixel_steps,
            "created_at": key.created_at,
            "expires_at": expires_at,
        }
        await self._database.write(lambda connection: connection.execute(insert(api_key).values(row)))
        return Issued(key, f"{key.id}:{secret}")

    async def check(self, credentials: str) -> Key | None:
        parts = _CREDENTIALS.fullmatch(credentials)
        if parts is None:
            return None
        row = await self._row(parts[1])
        now = self._clock()
        given = _hashed(parts[2])
        overlaps = row is not None and row.previous_until is not None and now < row.previous_until
        # Both are always compared, with what a wrong id has too: the time tells nothing of how near a guess was.
        current = hmac.compare_digest(given, row.secret_hash if row is not None else _NO_HASH)
        previous = hmac.compare_digest(given, row.previous_hash if row is not None and overlaps else _NO_HASH)
        if row is None or not (current or previous):
            return None
        key = _key(row)
        return key if key.counts_at(now) else None

    async def find(self, key_id: str) -> Key | None:
        row = await self._row(key_id)
        key = None if row is None else _key(row)
        return key if key is not None and key.counts_at(self._clock()) else None

    async def all(self) -> Sequence[Key]:
        every = select(api_key).order_by(api_key.c.created_at, api_key.c.id)
        rows = await self._database.read(lambda connection: connection.execute(every).all())
        return [_key(row) for row in rows]

    async def rotate(self, key_id: str, overlap: timedelta) -> Issued | None:
        secret = _secret()

        def replace(connection: Connection) -> Row[Any] | None:
            row = connection.execute(select(api_key).where(api_key.c.id == key_id).with_for_update()).first()
            if row is None or not _key(row).counts_at(self._clock()):
                return None
            new = {
                "secret_hash": _hashed(secret),
                "previous_hash": row.secret_hash,
                "previous_until": self._clock() + overlap,
            }
            connection.execute(update(api_key).where(api_key.c.id == key_id).values(new))
            return row

        row = await self._database.write(replace)
        return None if row is None else Issued(_key(row), f"{key_id}:{secret}")

    async def revoke(self, key_id: str) -> bool:
        revoked = (
            update(api_key)
            .where(api_key.c.id == key_id, api_key.c.revoked_at.is_(None))
            .values(revoked_at=self._clock())
        )
        return await self._database.write(lambda connection: connection.execute(revoked).rowcount == 1)

    async def at_once(self) -> Mapping[str, int]:
        limited = select(api_key.c.id, api_key.c.concurrency).where(api_key.c.concurrency.is_not(None))
        rows = await self._database.read(lambda connection: connection.execute(limited).all())
        return {row.id: row.concurrency for row in rows}

    async def reserve(self, key_id: str, pixel_steps: int, at_most: int | None = None) -> bool:
        if at_most is not None and pixel_steps > at_most:
            return False
        row = {"key": key_id, "day": self._clock().date(), "requests": 1, "pixel_steps": pixel_steps}

        def count(connection: Connection) -> bool:
            # the two dialects spell it alike, and SQLAlchemy has no common form
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            added = dialect.insert(api_key_usage).values(row)
            done = connection.execute(
                added.on_conflict_do_update(
                    index_elements=["key", "day"],
                    set_={
                        "requests": api_key_usage.c.requests + 1,
                        "pixel_steps": api_key_usage.c.pixel_steps + pixel_steps,
                    },
                    where=None if at_most is None else api_key_usage.c.pixel_steps + pixel_steps <= at_most,
                )
            )
            return done.rowcount == 1

        return await self._database.write(count)

    async def refund(self, key_id: str, pixel_steps: int) -> None:
        taken = (
            update(api_key_usage)
            .where(api_key_usage.c.key == key_id, api_key_usage.c.day == self._clock().date())
            .values(requests=api_key_usage.c.requests - 1, pixel_steps=api_key_usage.c.pixel_steps - pixel_steps)
        )
        await self._database.write(lambda connection: connection.execute(taken))

    async def used(self, key_id: str) -> tuple[int, int]:
        today = select(api_key_usage.c.requests, api_key_usage.c.pixel_steps).where(
            api_key_usage.c.key == key_id, api_key_usage.c.day == self._clock().date()
        )
        row = await self._database.read(lambda connection: connection.execute(today).first())
        return (0, 0) if row is None else (row.requests, row.pixel_steps)

    async def _row(self, key_id: str) -> Row[Any] | None:
        one = select(api_key).where(api_key.c.id == key_id)
        return await self._database.read(lambda connection: connection.execute(one).first())


def _secret() -> str:
    return secrets.token_urlsafe(32)


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: Row[Any]) -> Key:
    return Key(
        id=row.id,
        name=row.name,
        scopes=frozenset(Scope(scope) for scope in row.scopes.split()),
        limits=KeyLimits(row.concurrency, row.queue_length, row.pixel_steps),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
