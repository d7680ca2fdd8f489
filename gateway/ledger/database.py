"""Everything about the ledger that depends on the kind of database: connections, write locks, migrations."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

_MIGRATIONS = Path(__file__).with_name("migrations")
_WRITES = "ledger_writes"
_BUSY_TIMEOUT_MS = 30_000


class Database:
    """Connections of one process to the ledger's database. Belongs to the event loop that opened it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._writing = engine.execution_options(**{_WRITES: True})
        # Writers of one process take turns here, in order, rather than in SQLite's sleeping retries.
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, url: str) -> "Database":
        """Connect to `url` (sqlite+aiosqlite:///...) and bring its schema to the newest revision.

        Raises ValueError for a database that the ledger does not know.
        """
        parsed = make_url(url)
        if parsed.drivername != "sqlite+aiosqlite" or not parsed.database or parsed.database == ":memory:":
            raise ValueError("the ledger needs an address of the form sqlite+aiosqlite:////folder/ledger.db")
        path = Path(parsed.database)
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        engine = create_async_engine(parsed)
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        database = cls(engine)
        try:
            # Two processes must not switch a new file to WAL, or create its tables, at the same time.
            async with _only_process(path.with_name(path.name + ".lock")), database.write() as connection:
                await connection.run_sync(_upgrade)
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
        """A transaction that holds the write lock from its beginning, so that what it reads stays true."""
        async with self._turn, self._writing.begin() as connection:
            yield connection

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


def _upgrade(connection: Connection) -> None:
    config = Config()
    # `%` is special to the configuration's format, and may be part of a path.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
