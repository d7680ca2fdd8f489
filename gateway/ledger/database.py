"""Everything about the ledger that depends on the kind of database: connections, write locks, migrations."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

_MIGRATIONS = Path(__file__).with_name("migrations")
_WRITES = "ledger_writes"
_BUSY_TIMEOUT_MS = 30_000
_SQLITE, _POSTGRESQL = "sqlite+aiosqlite", "postgresql+asyncpg"
# Advisory locks of PostgreSQL are numbers that all applications of one database share.
_MIGRATING, _SUBMITTING = 0x466F6F01, 0x466F6F02


class Database:
    """Connections of one process to the ledger's database. Belongs to the event loop that opened it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._writing = engine.execution_options(**{_WRITES: True})
        self._one_writer = engine.dialect.name == "sqlite"
        # Writers of one process take turns here, in order, rather than in SQLite's sleeping retries.
        self._turn: AbstractAsyncContextManager[object] = asyncio.Lock() if self._one_writer else nullcontext()

    @classmethod
    async def open(cls, url: str) -> "Database":
        """Connect to `url` and bring its schema to the newest revision.

        url: `sqlite+aiosqlite:////folder/ledger.db`, or `postgresql+asyncpg://user:secret@host/database` where more
        than one machine touches the ledger. Raises ValueError for a database that the ledger does not know.
        """
        parsed = make_url(url)
        if parsed.drivername == _SQLITE and parsed.database and parsed.database != ":memory:":
            return await cls._open_sqlite(parsed, Path(parsed.database))
        if parsed.drivername == _POSTGRESQL and parsed.database:
            return await cls._open_postgresql(parsed)
        raise ValueError(
            "the ledger needs an address of the form sqlite+aiosqlite:////folder/ledger.db "
            "or postgresql+asyncpg://user:secret@host/database"
        )

    @classmethod
    async def _open_sqlite(cls, url: URL, path: Path) -> "Database":
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        engine = create_async_engine(url)
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        # Two processes must not switch a new file to WAL, or create its tables, at the same time.
        return await cls._upgraded(engine, _only_process(path.with_name(path.name + ".lock")))

    @classmethod
    async def _open_postgresql(cls, url: URL) -> "Database":
        # A connection may have died with a server that has come back since.
        return await cls._upgraded(create_async_engine(url, pool_pre_ping=True), nullcontext())

    @classmethod
    async def _upgraded(cls, engine: AsyncEngine, alone: AbstractAsyncContextManager[None]) -> "Database":
        database = cls(engine)
        try:
            async with alone, database.write() as connection:
                await database._take(connection, _MIGRATING)
                await connection.run_sync(migrate)
        except BaseException:
            await engine.dispose()
            raise
        return database

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for one SELECT, which is a transaction of its own."""
        async with self._engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes.

        On SQLite it holds the write lock from its beginning, so that what it reads stays true. On PostgreSQL what it
        reads stays true only where it locks what it read (`with_for_update`), and a lock that several writers may
        want in different orders is a deadlock: whoever locks several rows does so by ascending `seq`, or skips.
        """
        async with self._turn, self._writing.begin() as connection:
            yield connection

    @asynccontextmanager
    async def submitting(self) -> AsyncIterator[AsyncConnection]:
        """A transaction of which there is one at a time, over all processes: what it counts stays true."""
        async with self.write() as connection:
            await self._take(connection, _SUBMITTING)
            yield connection

    async def _take(self, connection: AsyncConnection, lock: int) -> None:
        if not self._one_writer:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})

    async def close(self) -> None:
        await self._engine.dispose()


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver would begin transactions by itself, and always without the write lock.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get(_WRITES):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@asynccontextmanager
async def _only_process(lock: Path) -> AsyncIterator[None]:
    file = await asyncio.to_thread(os.open, lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def migrate(connection: Connection, revision: str = "head") -> None:
    """Bring the schema up to `revision` in the transaction of `connection`."""
    config = Config()
    # `%` is special to the configuration's format, and may be part of a path.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
