"""Transactions on threads of their own, so that a caller who is cancelled never cuts one short."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gateway.errors import StoreUnavailable

T = TypeVar("T")

Work = Callable[[Connection], T]

ANSWER_S = 15.0  # within which a transaction answers, its turn included; then the ledger counts as away
READERS = 4
TRIES = 5  # at a transaction that met another one in a deadlock
_OURS = (IntegrityError, ProgrammingError, DataError, NotSupportedError)  # say that a statement is wrong
_SAVE, _UNDO, _KEEP = "SAVEPOINT piece", "ROLLBACK TO piece", "RELEASE piece"
_CLASHED = frozenset({"40P01", "40001"})  # PostgreSQL: deadlock_detected, serialization_failure


class _Piece(Generic[T]):
    """One transaction's work and who waits for what it returns."""

    def __init__(self, work: Work[T]) -> None:
        self._work = work
        self.answer: Future[T] = Future()
        self.withdrawn = False

    def run(self, connection: Connection) -> T:
        """What the work returns; raises, and so rolls it back, where nobody waits for it any more."""
        found = self._work(connection)
        if self.withdrawn:
            raise _WithdrawnError
        return found

    def end(self, outcome: T | BaseException) -> None:
        if isinstance(outcome, BaseException):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


class Transactions:
    """Runs synchronous pieces of work in transactions, each to its commit or rollback.

    A piece is called with a connection and may be called again after a rollback, so it keeps nothing outside itself.
    Cancelling who awaits it drops a piece that has not begun, and changes nothing for one that has.

    writers: threads that write; one where the database has one writer. group: how many waiting pieces one transaction
    may hold; each is a savepoint in it, and one that raises leaves nothing behind. They share the cost of the commit.
    """

    def __init__(self, reading: Engine, writing: Engine, *, writers: int, group: int) -> None:
        self._reading, self._writing, self._group = reading, writing, group
        self._closed = False
        self._reads: SimpleQueue[_Piece[Any] | None] = SimpleQueue()
        self._writes: SimpleQueue[_Piece[Any] | None] = SimpleQueue()
        self._readers = [self._start("ledger-read", self._run_reads) for _ in range(READERS)]
        self._writers = [self._start("ledger-write", self._run_writes) for _ in range(writers)]

    @staticmethod
    def _start(name: str, run: Callable[[], None]) -> Thread:
        thread = Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    async def read(self, work: Work[T]) -> T:
        """What `work` returns, outside any lock. Raises what it raises, StoreUnavailable where the database is away."""
        return await self._answered(self._reads, work)

    async def write(self, work: Work[T]) -> T:
        """What `work` returns, once it is committed. Raises as `read`; what was too late to be answered is rolled back,
        unless its commit itself was under way.
        """
        return await self._answered(self._writes, work)

    async def _answered(self, queue: "SimpleQueue[_Piece[Any] | None]", work: Work[T]) -> T:
        if self._closed:
            raise StoreUnavailable("ledger")
        piece = _Piece(work)
        queue.put(piece)
        try:
            async with asyncio.timeout(ANSWER_S) as limit:
                return await asyncio.wrap_future(piece.answer)
        except TimeoutError:
            if limit.expired():
                piece.withdrawn = True
                raise StoreUnavailable("ledger") from None
            raise

    def close(self) -> None:
        """Finish what is waiting, take nothing more, and end the threads. Blocks, as long as an answer may take."""
        self._closed = True
        for queue, threads in ((self._reads, self._readers), (self._writes, self._writers)):
            for _ in threads:
                queue.put(None)
        until = monotonic() + ANSWER_S
        for thread in (*self._readers, *self._writers):
            thread.join(max(0.0, until - monotonic()))

    def _run_reads(self) -> None:
        while (piece := self._reads.get()) is not None:
            if piece.answer.set_running_or_notify_cancel():
                piece.end(_again(lambda piece=piece: self._read(piece)))  # type: ignore[misc]

    def _read(self, piece: _Piece[T]) -> T:
        with self._reading.connect() as connection:
            return piece.run(connection)

    def _run_writes(self) -> None:
        while (first := self._writes.get()) is not None:
            group, over = [first], False
            while len(group) < self._group and not over:
                try:
                    more = self._writes.get_nowait()
                except Empty:
                    break
                if more is None:
                    over = True
                else:
                    group.append(more)
            self._write([piece for piece in group if piece.answer.set_running_or_notify_cancel()])
            if over:
                return

    def _write(self, group: Sequence[_Piece[Any]]) -> None:
        if len(group) == 1:
            group[0].end(_again(lambda: self._alone(group[0])))
        elif group:
            outcome = _again(lambda: self._together(group))
            if isinstance(outcome, _BrokenGroup):
                for piece in group:
                    self._write([piece])
                return
            for place, piece in enumerate(group):
                piece.end(_own(outcome) if isinstance(outcome, BaseException) else outcome[place])

    def _alone(self, piece: _Piece[T]) -> T:
        with self._writing.begin() as connection:
            return piece.run(connection)

    def _together(self, group: Sequence[_Piece[Any]]) -> list[Any]:
        """What each piece returned or raised, after one commit for all of them."""
        outcomes: list[Any] = []
        with self._writing.begin() as connection:
            for piece in group:
                try:
                    connection.exec_driver_sql(_SAVE)  # SQLAlchemy's own savepoints cost as much as a statement
                    outcomes.append(piece.run(connection))
                    connection.exec_driver_sql(_KEEP)
                except DBAPIError as error:
                    # the database may have ended the whole transaction with it
                    raise _BrokenGroup from error
                except Exception as error:
                    connection.exec_driver_sql(_UNDO)
                    connection.exec_driver_sql(_KEEP)
                    outcomes.append(error)
        return outcomes


def _own(fault: BaseException) -> BaseException:
    """The fault for one of those whom it met: what raises an exception writes its own traceback into it."""
    if not isinstance(fault, StoreUnavailable):
        return fault
    own = StoreUnavailable(fault.store)
    own.__cause__ = fault.__cause__
    return own


class _WithdrawnError(Exception):
    """Nobody hears it: whoever waited has been told that the ledger is away."""


class _BrokenGroup(Exception):
    """The database failed inside one piece of a group: each is tried in a transaction of its own."""


def _again(run: Callable[[], T]) -> T | BaseException:
    """What `run` returns or raises, with the database's faults as ours; again where it clashed with another."""
    for number in range(TRIES):
        try:
            return run()
        except Exception as error:
            if number == TRIES - 1 or getattr(getattr(error, "orig", None), "sqlstate", None) not in _CLASHED:
                return _fault(error)
    raise AssertionError("the loop returns")


def _fault(error: Exception) -> Exception:
    """What a caller is told: that the ledger is away, where it is the database that failed and not our statement."""
    away = isinstance(error, OSError | PoolTimeout) or (isinstance(error, DBAPIError) and not _ours(error))
    if not away:
        return error
    fault = StoreUnavailable("ledger")
    fault.__cause__ = error
    return fault


def _ours(error: DBAPIError) -> bool:
    """Whether a statement of ours is wrong; SQLite says so by its general code alone."""
    return isinstance(error, _OURS) or getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
