"""What a submit, a status and a look for fifty listeners cost the ledger, by how many requests wait.

Counted, not timed: steps of SQLite's virtual machine, or rows that PostgreSQL's scans touch by its own EXPLAIN. Another
process' work changes neither.
"""

import asyncio
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any, Protocol

import httpx2
from sqlalchemy import event
from sqlalchemy.engine import Engine

DEPTHS = (10, 9_000)
LISTENERS, WAITING_LISTENERS = 50, 10  # the others' requests have ended
FILLED_AT_ONCE = 16
REPEATS = 5
PATH = "/queue/fal-ai/fast-fooocus-sdxl"
INPUT: Mapping[str, Any] = MappingProxyType({"prompt": "a cube", "num_inference_steps": 4, "expand_prompt": False})

_EXPLAINED = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "WITH"})
_NO_TABLES = frozenset({"Bitmap Index Scan", "CTE Scan", "Function Scan", "Subquery Scan", "Values Scan"})

Costs = Mapping[str, Sequence[float]]
"""Of each call, at each depth."""


class Meter(Protocol):
    """Counts what the databases of this process do. counted: in the last context of `counting`."""

    counted: int

    def counting(self) -> AbstractContextManager[None]: ...


class SqliteSteps:
    """Steps of SQLite's virtual machine, in every connection that this process opens from here on."""

    def __init__(self) -> None:
        self.counted = 0
        self._connections: list[Any] = []
        self._handler: Callable[[], None] | None = None
        event.listen(Engine, "connect", self._opened)

    @contextmanager
    def counting(self) -> Iterator[None]:
        self.counted = 0
        self._have_called(self._step)
        try:
            yield
        finally:
            self._have_called(None)

    def close(self) -> None:
        event.remove(Engine, "connect", self._opened)

    def _opened(self, connection: Any, _: object) -> None:
        self._connections.append(connection)
        connection.set_progress_handler(self._handler, 1)

    def _have_called(self, handler: Callable[[], None] | None) -> None:
        self._handler = handler
        for connection in self._connections:
            with suppress(sqlite3.ProgrammingError):  # one that was closed
                connection.set_progress_handler(handler, 1)

    def _step(self) -> None:  # returning anything true would end the statement
        self.counted += 1


class PostgresqlRows:
    """Rows that the scans of PostgreSQL touch: each statement is explained with its run before it runs."""

    def __init__(self) -> None:
        self.counted = 0
        self._counts = False
        event.listen(Engine, "before_cursor_execute", self._executes)

    @contextmanager
    def counting(self) -> Iterator[None]:
        self.counted, self._counts = 0, True
        try:
            yield
        finally:
            self._counts = False

    def close(self) -> None:
        event.remove(Engine, "before_cursor_execute", self._executes)

    def _executes(self, connection: Any, _cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        if not self._counts or statement.split(maxsplit=1)[0].upper() not in _EXPLAINED:
            return
        driver = connection.connection.dbapi_connection
        begin, undo = ("BEGIN", "ROLLBACK")
        if not driver.autocommit:
            begin, undo = ("SAVEPOINT explained", "ROLLBACK TO SAVEPOINT explained")
        with driver.cursor() as cursor:
            cursor.execute(begin)
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            self.counted += touched(cursor.fetchone()[0][0]["Plan"])
            cursor.execute(undo)


def touched(plan: Mapping[str, Any]) -> int:
    """Rows that the scans of a plan gave or threw away."""
    below = sum(touched(each) for each in plan.get("Plans", ()))
    kind = str(plan["Node Type"])
    if not kind.endswith("Scan") or kind in _NO_TABLES:
        return below
    removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
    of_all_loops: float = (plan["Actual Rows"] + removed) * plan["Actual Loops"]
    return below + round(of_all_loops)


def measure_sqlite(depths: Sequence[int] = DEPTHS) -> Costs:
    """VM steps by depth, of a new file."""
    steps = SqliteSteps()
    try:
        return asyncio.run(_measure(steps, None, depths))
    finally:
        steps.close()


def measure_postgresql(address: str, depths: Sequence[int] = DEPTHS) -> Costs:
    """Rows touched by depth. address: of an empty database, which is left as it was filled."""
    rows = PostgresqlRows()
    try:
        return asyncio.run(_measure(rows, address, depths))
    finally:
        rows.close()


async def _measure(meter: Meter, address: str | None, depths: Sequence[int]) -> Costs:
    from gateway.app import Parts, create_app
    from gateway.files.backends import files_of
    from gateway.ledger.opening import open_ledger
    from gateway.settings import GatewaySettings

    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = GatewaySettings(data_dir=Path(folder), ledger_url=address, allowed_hosts=("bench",))
        ledger = await open_ledger(settings)
        nobody: Any = None  # draws: what is asked of a request stays in the ledger
        transport = httpx2.ASGITransport(app=create_app(Parts(settings, ledger, files_of(settings), nobody)))
        try:
            async with httpx2.AsyncClient(transport=transport, base_url="http://bench", timeout=60) as client:
                queue = Queue(client)
                ended = [await queue.ended() for _ in range(LISTENERS - WAITING_LISTENERS)]
                for depth in depths:
                    await queue.fill(depth)
                    if address is not None:
                        await asyncio.to_thread(_analyse, address)
                    listened = [*ended, *queue.waiting[-WAITING_LISTENERS:]]
                    calls: dict[str, Callable[[], Awaitable[object]]] = {
                        "submit": queue.submit,
                        "status of the last": queue.status,
                        f"look for {LISTENERS} listeners": lambda listened=listened: ledger.statuses(listened),  # type: ignore[misc]
                    }
                    for name, call in calls.items():
                        found.setdefault(name, []).append(await _cost(meter, queue, call))
        finally:
            await ledger.close()
    return found


class Queue:
    """A client whose requests nobody draws. waiting: their ids, by their places in the queue."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client
        self.waiting: list[str] = []

    async def submit(self) -> int:
        """Add a request; how many are ahead of it."""
        answer = (await self._client.post(PATH, json=dict(INPUT))).raise_for_status().json()
        self.waiting.append(answer["request_id"])
        return int(answer["queue_position"])

    async def status(self) -> None:
        (await self._client.get(f"{PATH}/requests/{self.waiting[-1]}/status")).raise_for_status()

    async def shorten(self, length: int) -> None:
        """Cancel the last ones."""
        while len(self.waiting) > length:
            (await self._client.put(f"{PATH}/requests/{self.waiting.pop()}/cancel")).raise_for_status()

    async def ended(self) -> str:
        """The id of a new request that no longer waits."""
        await self.submit()
        name = self.waiting[-1]
        await self.shorten(len(self.waiting) - 1)
        return name

    async def fill(self, length: int) -> None:
        """Submit until so many wait; the last ones one after the other, so that their places are known."""
        left = iter(range(len(self.waiting), length - WAITING_LISTENERS))

        async def some() -> None:
            for _ in left:
                await self.submit()

        await asyncio.gather(*(some() for _ in range(FILLED_AT_ONCE)))
        while len(self.waiting) < length:
            ahead = await self.submit()
            if ahead != len(self.waiting) - 1:
                raise RuntimeError(f"{ahead} requests are said to be ahead of number {len(self.waiting)}")


async def _cost(meter: Meter, queue: Queue, call: Callable[[], Awaitable[object]]) -> float:
    """The median of several calls, each with as many waiting."""
    length = len(queue.waiting)
    found = []
    for _ in range(REPEATS):
        with meter.counting():
            await call()
        found.append(meter.counted)
        await queue.shorten(length)
    return median(found)


def _analyse(address: str) -> None:
    """Let PostgreSQL's planner know what autovacuum would tell it in some seconds."""
    import psycopg

    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("ANALYZE")
