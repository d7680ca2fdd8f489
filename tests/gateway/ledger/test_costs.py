"""What the ledger's calls cost: few statements and commits, and no more in a long queue than in a short one."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event, insert, text

from benchmarks.ledger_depth import PostgresqlRows, SqliteSteps
from gateway.ledger.models import AtOnce, Limits, Outcome, Place, Terms
from gateway.ledger.store import SqlLedger
from gateway.ledger.tables import request
from tests.gateway.ledger.works import APP, OK, Clock, work

LINES = [("INFO", "Sampling step 1/4"), ("INFO", "Sampling step 4/4")]
SHORT, LONG = 10, 9000
# As a gateway asks: with limits of the key and of its open calls.
TERMS = Terms("k", max_of_key=10_000)
RUN = Terms("k", max_of_key=10_000, listener="me", max_open=32)

Call = Callable[[], Awaitable[object]]
Measures = SqliteSteps | PostgresqlRows


@contextmanager
def costs(ledger: SqlLedger) -> Iterator[Counter[str]]:
    """How many statements and commits there are meanwhile."""
    counted: Counter[str] = Counter()
    engine = ledger.database._engine

    def hear(*told: Any) -> None:
        if not str(told[2]).startswith(("BEGIN", "SELECT pg_advisory")):
            counted["statements"] += 1

    def commit(_: Connection) -> None:
        counted["commits"] += 1

    event.listen(engine, "before_cursor_execute", hear)
    event.listen(engine, "commit", commit)
    yield counted
    event.remove(engine, "before_cursor_execute", hear)
    event.remove(engine, "commit", commit)


async def test_a_request_in_the_queue_is_four_commits(url: str, clock: Clock) -> None:
    ledger = await SqlLedger.open(url, clock, positions_age_s=60)
    await ledger.submit(work("before"), APP, TERMS)
    await ledger.claim("one", 1, 60)
    with costs(ledger) as counted:
        await ledger.submit(work("a"), APP, TERMS)
        assert counted == {"statements": 2, "commits": 1}
        (claim,) = await ledger.claim("one", 1, 60)
        assert counted == {"statements": 5, "commits": 2}
        assert await ledger.running(claim)
        assert counted == {"statements": 6, "commits": 3}
        assert await ledger.finish(claim, Outcome.OK, OK, (), LINES)
        assert counted == {"statements": 8, "commits": 4}
    assert [(entry.level, entry.message) for entry in await ledger.logs("a")] == LINES
    await ledger.close()


async def test_a_run_that_finds_a_free_place_is_two_commits(url: str, clock: Clock) -> None:
    ledger = await SqlLedger.open(url, clock, positions_age_s=60)
    await ledger.submit(work("before"), APP, RUN, Place("here", 60))
    with costs(ledger) as counted:
        claim = (await ledger.submit(work("a"), APP, RUN, Place("here", 60))).claim
        assert claim is not None
        assert counted == {"statements": 4, "commits": 1}  # one counts the key's open calls, one notes its turn
        assert await ledger.finish(claim, Outcome.OK, OK)
        assert counted == {"statements": 5, "commits": 2}
    await ledger.close()


async def test_a_start_that_comes_too_late_is_ended_in_one_commit(url: str, clock: Clock) -> None:
    ledger = await SqlLedger.open(url, clock)
    claim = (await ledger.submit(work("a"), APP, Terms(start_within_s=5), Place("here", 60))).claim
    assert claim is not None
    clock.turn(5)
    with costs(ledger) as counted:
        assert not await ledger.running(claim)
        assert counted["commits"] == 1
    await ledger.close()


class Deep:
    """A ledger with so many QUEUED of one key, whose limits and positions are known to the process."""

    def __init__(self, ledger: SqlLedger, depth: int) -> None:
        self.ledger, self.depth = ledger, depth

    def calls(self, name: str) -> Mapping[str, Call]:
        """Each of a request that waits behind all the others; and what does not ask for their number."""
        return {
            "submit": lambda: self.ledger.submit(work(name), APP, TERMS),
            "submit a run": lambda: self.ledger.submit(work(f"{name}-run"), APP, RUN, Place("here", 60)),
            "status": lambda: self.ledger.status(name, APP),
            "statuses": lambda: self.ledger.statuses([name, f"{name}-run"]),
            "waits": self.ledger.waits,
            "claim": lambda: self.ledger.claim("here", 1, 60, AtOnce(default=20_000)),
            "cancel": lambda: self.ledger.cancel(name, APP),
        }

    async def fill(self) -> None:
        await self.ledger.submit(work("first"), APP, TERMS)
        await self.ledger.database.write(self._fill)
        # whoever is the first of a process counts once, and reads the order once
        self.ledger._admission._counted.clear()
        await self.ledger.submit(work("second"), APP, TERMS)
        self.ledger._positions._begun_at = float("-inf")
        status = await self.ledger.status("second", APP)
        assert status is not None
        assert status.position == self.depth + 1

    def _fill(self, connection: Connection) -> None:
        row = dict(connection.execute(request.select()).mappings().one())
        del row["seq"]
        rows = [row | {"id": f"q{number}", "turn": number} for number in range(1, self.depth + 1)]
        connection.execute(insert(request), rows)
        if connection.dialect.name == "postgresql":
            connection.execute(text("ANALYZE request"))  # as the server does by itself a little later


async def deep(url: str, clock: Clock, depth: int) -> Deep:
    made = Deep(await SqlLedger.open(url, clock, Limits(waiting=20_000), positions_age_s=600), depth)
    await made.fill()
    return made


@contextmanager
def measured(meter: Measures) -> Iterator[Measures]:
    try:
        yield meter
    finally:
        meter.close()


async def found(meter: Measures, url: str, clock: Clock, depth: int) -> Mapping[str, int]:
    """What each call counts."""
    counted = {}
    made = await deep(url, clock, depth)
    for name, call in made.calls("a").items():
        with meter.counting():
            await call()
        counted[name] = meter.counted
    await made.ledger.close()
    return counted


def grown(short: Mapping[str, int], long: Mapping[str, int]) -> Mapping[str, tuple[int, int]]:
    return {name: (short[name], count) for name, count in long.items() if count > 1.2 * short[name]}


async def test_on_sqlite_no_call_makes_more_steps_in_a_long_queue(tmp_path_factory: Any, clock: Clock) -> None:
    with measured(SqliteSteps()) as steps:
        short, long = [
            await found(steps, f"sqlite:///{tmp_path_factory.mktemp('deep')}/ledger.db", clock, depth)
            for depth in (SHORT, LONG)
        ]
    assert all(count > 0 for count in short.values())
    assert grown(short, long) == {}


async def test_on_postgresql_no_call_touches_more_rows_in_a_long_queue(postgresql: Any, clock: Clock) -> None:
    counted = []
    with measured(PostgresqlRows()) as rows:
        for depth in (SHORT, LONG):
            name = f"deep_{depth}"
            counted.append(await found(rows, postgresql.create(name), clock, depth))
            postgresql.drop(name)
    short, long = counted
    assert all(count > 0 for count in short.values())
    assert grown(short, long) == {}
