"""What fails while sixty requests are queued and running on several machines: none is lost, each is answered once."""

import asyncio
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.deployments.fakes import wait_until
from tests.kills.holding import FREE
from tests.machines.asks import plain
from tests.machines.config import scale
from tests.machines.load import Load, Told
from tests.machines.staged import Machines

QUEUED, RUNS = 60, 3
AWAY_S = 60.0
HELD_S = 20.0  # of those, until the engine goes on
UNDER_WAY_S, PATIENCE_S = 120.0, 400.0
RUNNING = 10  # some are drawn when it fails, and others wait


def holding(machines: Machines) -> dict[str, Any]:
    """The production file, with an engine that can be held, on two of the three GPUs."""
    content = machines.production()
    content["applications"][0]["import_path"] = "tests.machines.app:holding"
    content["applications"][0]["args"]["gateway"]["lease_s"] = 5
    scale(content, 2, 2)
    return content


@pytest.fixture(scope="module")
def deployed(machines: Machines) -> Machines:
    machines.deploy(holding(machines))
    return machines


@pytest.fixture
def whole(deployed: Machines) -> Iterator[Machines]:
    """All machines run, and nothing is asked for."""
    for node in deployed.nodes:
        if not node.runs:
            node.start(None if node is deployed.head else deployed.head)
    deployed.wait_until_it_runs()
    wait_until(lambda: not deployed.rows("id", "state <> 'done'"), PATIENCE_S)  # of a test that has failed
    try:
        yield deployed
    finally:
        deployed.hold.unlink(missing_ok=True)


async def asked_meanwhile(machines: Machines, key: str, failing: Callable[[], None]) -> list[Told]:
    """What clients are told who have asked before `failing` begins and wait until all is well again."""
    before = len(machines.rows("id"))
    machines.hold.touch()
    asks = [*plain(QUEUED, first_seed=FREE), *plain(RUNS, "run", first_seed=FREE + QUEUED)]
    load = asyncio.create_task(Load(key, PATIENCE_S).of(asks))
    try:
        await asyncio.to_thread(wait_until, lambda: _under_way(machines, before), UNDER_WAY_S)
        await asyncio.to_thread(failing)
    except BaseException:
        load.cancel()
        raise
    finally:
        machines.hold.unlink(missing_ok=True)
    return await load


def _under_way(machines: Machines, before: int) -> bool:
    """Whether all have been accepted, and enough of them are being drawn."""
    accepted, drawn = len(machines.rows("id")) - before, len(machines.rows("id", "state = 'running'"))
    return accepted >= QUEUED + RUNS and drawn >= RUNNING


def check(machines: Machines, told: list[Told], *, attempts: bool = False) -> None:
    """Each queued request has its own picture; a sync run has it, or was told to try again. attempts: at the first."""
    queued, runs = told[:QUEUED], told[QUEUED:]
    assert Counter(one.refused for one in queued) == {None: QUEUED}
    assert [one.seed for one in queued] == [one.ask.arguments["seed"] for one in queued]
    for one in runs:
        if one.refused is None:
            assert one.seed == one.ask.arguments["seed"]
        else:
            assert (one.refused[0], one.retryable) == (503, True), one
    rows = machines.rows(
        "state, outcome, attempt, retries, crashes", "id = ANY(%s)", [[one.request_id for one in queued]]
    )
    assert Counter(row[:2] for row in rows) == {("done", "ok"): QUEUED}
    if attempts:
        assert Counter(row[2:] for row in rows) == {(1, 0, 0): QUEUED}


def away(machines: Machines, stop: Callable[[], None], start: Callable[[], None]) -> Callable[[], None]:
    """A store is away for a minute, and what is drawn has to wait for it."""

    def failing() -> None:
        stop()
        try:
            time.sleep(HELD_S)
            machines.hold.unlink()
            time.sleep(AWAY_S - HELD_S)
        finally:
            start()

    return failing


async def test_a_database_that_is_away_for_a_minute(whole: Machines, key: str, clients: None) -> None:
    failing = away(whole, whole.database.stop, whole.database.start)
    check(whole, await asked_meanwhile(whole, key, failing), attempts=True)


async def test_a_bucket_that_is_away_for_a_minute(whole: Machines, key: str, clients: None) -> None:
    failing = away(whole, whole.bucket.kill, whole.bucket.start)
    check(whole, await asked_meanwhile(whole, key, failing), attempts=True)


async def test_the_heads_store_that_is_away_for_a_minute(whole: Machines, key: str, clients: None) -> None:
    """Ray's head ends without its Redis, and is started again as a supervisor would."""

    def back() -> None:
        whole.redis.start()
        if not whole.head.runs:
            whole.head.start()

    check(whole, await asked_meanwhile(whole, key, away(whole, whole.redis.stop, back)))


@pytest.mark.parametrize("hosts", ["Diffuser", "Dispatcher"])
async def test_a_worker_that_is_lost(whole: Machines, key: str, clients: None, hosts: str) -> None:
    """Whatever else is on it goes with it."""

    def failing() -> None:
        lost = next(node for node in reversed(whole.nodes) if whole.replicas(hosts)[node.name])
        assert lost is not whole.head
        lost.kill()

    check(whole, await asked_meanwhile(whole, key, failing))


async def test_a_worker_that_is_cut_off(whole: Machines, key: str, clients: None) -> None:
    """As one that loses its power: nobody is told that its connections have ended."""

    def failing() -> None:
        lost = next(node for node in reversed(whole.nodes) if whole.replicas("Diffuser")[node.name])
        whole.network.unplug(lost.namespace)
        lost.kill()
        whole.network.plug(lost.namespace)

    check(whole, await asked_meanwhile(whole, key, failing))


async def test_serves_controller_that_is_lost(whole: Machines, key: str, clients: None) -> None:
    check(whole, await asked_meanwhile(whole, key, lambda: whole.head.kill("ServeController")), attempts=True)


async def test_a_head_that_is_lost_and_comes_back(whole: Machines, key: str, clients: None) -> None:
    def failing() -> None:
        whole.head.kill()
        time.sleep(5)
        whole.head.start()

    check(whole, await asked_meanwhile(whole, key, failing))


async def test_a_worker_that_is_given_notice(whole: Machines, key: str, clients: None) -> None:
    """It is drained, which Serve hears of, and ends when its time is over."""

    def failing() -> None:
        lost = next(node for node in reversed(whole.nodes) if whole.replicas("Diffuser")[node.name])
        threading.Timer(5, whole.hold.unlink).start()
        lost.run(sys.executable, "-m", "deployments.drain", "--node", "--within", str(int(AWAY_S)))
        lost.kill()

    check(whole, await asked_meanwhile(whole, key, failing), attempts=True)


async def test_a_rolling_update(whole: Machines, key: str, clients: None) -> None:
    """Of an argument, which starts everything anew."""

    def failing() -> None:
        content = holding(whole)
        content["applications"][0]["args"]["gateway"]["fetch_timeout_s"] = 21
        whole.give(content)
        time.sleep(5)
        whole.hold.unlink()
        whole.wait_until_it_runs()

    check(whole, await asked_meanwhile(whole, key, failing))


async def test_fewer_replicas(whole: Machines, key: str, clients: None) -> None:
    """One of two stops while both draw."""

    def failing() -> None:
        content = holding(whole)
        scale(content, 1, 1, keep_s=1)
        whole.give(content)
        time.sleep(5)
        whole.hold.unlink()
        wait_until(lambda: whole.running("Diffuser") == 1, AWAY_S)

    try:
        check(whole, await asked_meanwhile(whole, key, failing), attempts=True)
    finally:
        whole.deploy(holding(whole))
