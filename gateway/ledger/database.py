"""Everything about the ledger that depends on the kind of database: connections, locks, migrations."""

import asyncio
import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError

from gateway.errors import StoreUnavailable
from gateway.ledger.copying import CopyingFailed, copy_database, copy_name
from gateway.ledger.transactions import Transactions, Work
from gateway.ledger_address import parse

T = TypeVar("T")

logger = logging.getLogger("fooocus.gateway")

_MIGRATIONS = Path(__file__).with_name("migrations")
_WRITES = "ledger_writes"
_FILE = "ledger_file"
_BUSY_TIMEOUT_MS = 10_000
_CACHE_KIB = 256  # of pages, which each connection of every process fills with the years
_WAL_BYTES = 16 * 1024 * 1024  # to which the write-ahead log shrinks after it was larger
_GROUP = 64
_WRITERS = 4  # threads on PostgreSQL, which takes several writers
_CONNECT_S = 5
# A server that is gone with its machine does not say so: its connections end when nothing comes back for so long.
_ALIVE: Mapping[str, int] = {
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,
}
# What a process that hangs in the midst of a transaction may hold up the others: they get its locks back after this.
_PATIENCE = "SET statement_timeout = '10s'; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '10s'"
# Advisory locks of PostgreSQL are numbers that all applications of one database share.
MIGRATING, SUBMITTING, CLAIMING, UPLOADING, LEADING = 0x466F6F01, 0x466F6F02, 0x466F6F03, 0x466F6F04, 0x466F6F05


VERSION = "alembic_version"
TABLES = ("request", "log", "turn", "delivery", "api_key", "api_key_usage", "upload", "upload_part", "leader")


class LedgerUnusable(RuntimeError):
    """The ledger's database is damaged, or of a version that this one does not know. Says what to do."""


class Database:
    """The ledger's database as one process sees it. Any number of ledgers, outboxes and stores of keys may share it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        sqlite = engine.dialect.name == "sqlite"
        # PostgreSQL commits transactions at once together by itself; grouped here, they would meet in deadlocks.
        self._transactions = Transactions(
            engine if sqlite else engine.execution_options(isolation_level="AUTOCOMMIT"),
            engine.execution_options(**{_WRITES: True}),
            writers=1 if sqlite else _WRITERS,
            group=_GROUP if sqlite else 1,
        )

    @classmethod
    async def open(cls, url: str, backups: Path | None = None) -> "Database":
        """Connect to `url` and bring its schema to the newest revision, after a backup of a ledger that is there.

        url: `sqlite:////folder/ledger.db`, or `postgresql://user:secret@host/database` where more than one machine
        touches the ledger; a driver that is named (`postgresql+asyncpg`) is replaced by ours. backups: folder for the
        backup of PostgreSQL's, without which one of an earlier version is refused; SQLite's is made beside the file.
        Raises ValueError for a database that the ledger does not know, LedgerUnusable for one that it cannot go on
        with, StoreUnavailable for one that is away.
        """
        parsed = parse(url)
        if parsed.get_backend_name() == "sqlite":
            opening = partial(_opened_sqlite, parsed)
        else:
            opening = partial(_opened_postgresql, parsed, backups)
        try:
            return cls(await asyncio.to_thread(opening))
        except (DBAPIError, sqlite3.Error) as error:
            raise StoreUnavailable("ledger") from error

    async def read(self, work: Work[T]) -> T:
        """What `work` returns; each of its SELECTs is a transaction of its own. See `Transactions.read`."""
        return await self._transactions.read(work)

    async def write(self, work: Work[T]) -> T:
        """What `work` returns, from a transaction that writes. See `Transactions.write`.

        On SQLite it holds the write lock from its beginning, so that what it reads stays true. On PostgreSQL what it
        reads stays true only where it locks what it read (`with_for_update`, `take_lock`), and a lock that several
        writers may want in different orders is a deadlock: whoever locks several rows does so by ascending `seq`, or
        skips.
        """
        return await self._transactions.write(work)

    async def check(self) -> None:
        """Raise StoreUnavailable where nothing can be written: a full disk, a server that only reads, a held lock."""
        await self.write(_dirty)

    async def shrink(self) -> int:
        """Give the space of SQLite's write-ahead log back to the disk. Returns 0, for nothing is lost by it."""
        if self._engine.dialect.name == "sqlite":
            await self.read(lambda connection: connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all())
        return 0

    async def close(self) -> None:
        await asyncio.to_thread(self._transactions.close)
        await asyncio.to_thread(self._engine.dispose)


def tables_at(url: URL) -> frozenset[str]:
    """The ledger's tables that the database at `url` has, `alembic_version` with them; nothing is made or changed.

    Raises LedgerUnusable for a damaged SQLite file, StoreUnavailable for a database that is away.
    """
    try:
        if url.get_backend_name() == "sqlite":
            path = Path(url.database or "")
            if not path.exists() or not path.stat().st_size:
                return frozenset()
            check_file(path)
            engine = create_engine(url)
        else:
            engine = create_engine(url, connect_args={"connect_timeout": _CONNECT_S})
        try:
            return frozenset(inspect(engine).get_table_names()) & {VERSION, *TABLES}
        finally:
            engine.dispose()
    except (DBAPIError, sqlite3.Error) as error:
        raise StoreUnavailable("ledger") from error


def take_lock(connection: Connection, lock: int) -> None:
    """Hold `lock` until the transaction ends: over all processes, one at a time. SQLite's writers always are."""
    if connection.dialect.name == "postgresql":
        connection.execute(_TAKE, {"lock": lock})


_TAKE = text("SELECT pg_advisory_xact_lock(:lock)")


def _dirty(connection: Connection) -> None:
    """Write what is there already, so that nothing is different afterwards."""
    if connection.dialect.name == "sqlite":
        # which nobody else sets; its page is written though the value stays, where an UPDATE to the same writes nothing
        connection.exec_driver_sql("PRAGMA user_version = 0")
    else:
        connection.execute(_REWRITE)


# It waits for nobody: a row that another one rewrites, or a migration holds, is being written.
_REWRITE = text(
    "UPDATE alembic_version SET version_num = version_num "
    "WHERE version_num IN (SELECT version_num FROM alembic_version FOR UPDATE SKIP LOCKED)"
)


def migrate(connection: Connection, revision: str = "head") -> None:
    """Bring the schema up to `revision` in the transaction of `connection`."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _config() -> Config:
    config = Config()
    # `%` is special to the configuration's format, and may be part of a path.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _opened_postgresql(url: URL, backups: Path | None) -> Engine:
    # A connection may have died with a server that has come back since.
    engine = create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": _CONNECT_S, **_ALIVE})
    event.listen(engine, "connect", _prepare_postgresql)
    return _upgraded(engine, backups)


def _opened_sqlite(url: URL) -> Engine:
    path = Path(url.database or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes must not switch a new file to WAL, or create its tables, at the same time.
    with _only_process(path.with_name(path.name + ".lock")):
        if path.exists() and path.stat().st_size:
            check_file(path)
        engine = create_engine(url)
        _keep_to(path, engine)
        event.listen(engine, "begin", _begin_sqlite)
        return _upgraded(engine, path.parent)


def _upgraded(engine: Engine, backups: Path | None) -> Engine:
    """The engine, its schema at the newest revision. backups: folder of the copy that is made before it is changed."""
    try:
        with engine.execution_options(**{_WRITES: True}).begin() as connection:
            take_lock(connection, MIGRATING)
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")  # while it is copied
            current, newest = MigrationContext.configure(connection).get_current_revision(), _revisions()
            if current == newest[0]:
                return engine
            if current is not None and current not in newest:
                raise LedgerUnusable(
                    f"The ledger was written by a newer version of this service (schema {current}, "
                    f"this one knows {newest[0]}): run that version again, or restore the backup from before it."
                )
            if current is not None:
                copy = _back_up(engine.url, current, backups)
                logger.warning(
                    "The ledger's tables are brought from version %s to %s; they are backed up in %s.",
                    current,
                    newest[0],
                    copy,
                )
            migrate(connection)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _revisions() -> list[str]:
    """All revisions that this version knows, the newest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]


def _back_up(url: URL, revision: str, folder: Path | None) -> Path:
    """Copy the ledger as it is committed. A copy that is there already is of the same revision, and older."""
    if folder is None:
        raise LedgerUnusable(
            f"The ledger is of an earlier version (schema {revision}), and no folder is named for the backup "
            "that is made before its tables change."
        )
    stem = Path(url.database or "").stem if url.get_backend_name() == "sqlite" else "ledger"
    copy = folder / copy_name(url, f"{stem}-{revision}.backup")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        copy_database(url, copy, [VERSION, *TABLES])
    except (CopyingFailed, OSError) as error:
        raise LedgerUnusable(
            f"The ledger is of an earlier version (schema {revision}), and the backup that is made in {folder} before "
            f"its tables change failed: {error}"
        ) from error
    return copy


def check_file(path: Path) -> None:
    """Raise LedgerUnusable for a file that SQLite finds damaged."""
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_MS / 1000)) as connection:
            found = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.OperationalError:
        raise  # it is locked or cannot be read, which says nothing about its content
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the driver cannot decode some of what SQLite says
        found = str(error)
    if found != "ok":
        raise LedgerUnusable(
            f"The ledger {path} is damaged ({' '.join(found.split())}): move it and the files beside it away, and "
            "restore a backup, or start without one."
        )


def _prepare_postgresql(connection: Any, _record: object) -> None:
    autocommit, connection.autocommit = connection.autocommit, True
    connection.execute(_PATIENCE)
    connection.autocommit = autocommit


def _keep_to(path: Path, engine: Engine) -> None:
    """Prepare each connection, and fail where the file it has opened is no longer the one at `path`.

    What is written to a file that was moved or deleted is lost, and SQLite does not notice.
    """

    def prepare(connection: Any, record: Any) -> None:
        _prepare_sqlite(connection, record)
        record.info[_FILE] = path.stat().st_ino

    def check(connection: Connection) -> None:
        if path.stat().st_ino != connection.info[_FILE]:
            raise FileNotFoundError(f"{path} is another file than the ledger that was opened")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", check)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver would begin transactions by itself, and always without the write lock.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get(_WRITES):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _only_process(lock: Path) -> Iterator[None]:
    file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
