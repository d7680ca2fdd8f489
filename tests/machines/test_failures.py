"""What fails while sixty requests are queued and running on several machines: none is lost, each is answered once."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from deployments.placement import DEFAULTS
from tests.deployments.fakes import wait_until
from tests.kills.holding import FREE
from tests.machines.asks import plain
from tests.machines.config import scale
from tests.machines.load import Load, Told
from tests.machines.node import Node
from tests.machines.staged import Machines

QUEUED, RUNS = 60, 3
REPLICAS = 2  # that draw
AWAY_S = 60.0
HELD_S = 20.0  # of those, until the engine goes on
UNDER_WAY_S, PATIENCE_S = 120.0, 240.0
RUNNING = 10  # some are drawn when it fails, and others wait
NOTICED_S = 90.0  # until Serve has begun with what it was told, on a busy machine
STARTED_S = 300.0  # until it has ended with it
NOTICES_S = (110.0, 900.0)  # of a spot machine, and of one that is taken away in peace

Charged = tuple[int, int, int]
UNHARMED: Charged = (1, 0, 0)


def holding(machines: Machines) -> dict[str, Any]:
    """The production file, with an engine that can be held, on two of the three GPUs."""
    content = machines.production()
    content["applications"][0]["import_path"] = "tests.machines.app:holding"
    content["applications"][0]["args"]["gateway"]["lease_s"] = 5
    scale(content, REPLICAS, REPLICAS)
    return content


@pytest.fixture(scope="module")
def deployed(machines: Machines) -> Machines:
    machines.deploy(holding(machines))
    return machines


@pytest.fixture
def whole(deployed: Machines) -> Iterator[Machines]:
    """All machines run, and nothing is asked for."""

    def start_what_has_ended() -> None:
        """As a supervisor does, also where it ends once more while another one starts."""
        for node in deployed.nodes:
            if not node.runs:
                print(f"{node.name} is started again")
                node.start(None if node is deployed.head else deployed.head)

    for node in deployed.nodes:
        deployed.network.plug(node.namespace)
    start_what_has_ended()
    deployed.wait_until_it_runs(start_what_has_ended)
    wait_for_serve(lambda: deployed.running("Diffuser") == REPLICAS, STARTED_S)
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
    begun = time.monotonic()
    try:
        await asyncio.to_thread(wait_until, lambda: _under_way(machines, before), UNDER_WAY_S)
        print(f"under way after {time.monotonic() - begun:.0f} s")
        await asyncio.to_thread(failing)
    except BaseException:
        load.cancel()
        raise
    finally:
        machines.hold.unlink(missing_ok=True)
    print(f"failed until {time.monotonic() - begun:.0f} s")
    told = await load
    print(f"answered after {time.monotonic() - begun:.0f} s, broken {sum(one.broken for one in told)} times")
    return told


def _under_way(machines: Machines, before: int) -> bool:
    """Whether all have been accepted, and enough of them are being drawn."""
    accepted, drawn = len(machines.rows("id")) - before, len(machines.rows("id", "state = 'running'"))
    return accepted >= QUEUED + RUNS and drawn >= RUNNING


def check(machines: Machines, told: list[Told], *, runs_answered: bool = False) -> Counter[Charged]:
    """Each queued request has its own picture; a sync run has it, or was told to try again. Returns how many of those
    that were queued needed so many attempts, of which so many were counted as faults and as crashes.

    runs_answered: no sync run was told so.
    """
    queued, runs = told[:QUEUED], told[QUEUED:]
    assert Counter(one.refused for one in queued) == {None: QUEUED}
    assert [one.seed for one in queued] == [one.ask.arguments["seed"] for one in queued]
    for one in runs:
        if one.refused is None:
            assert one.seed == one.ask.arguments["seed"]
        else:
            assert (one.refused[0], one.retryable, runs_answered) == (503, True, False), one
    rows = machines.rows(
        "state, outcome, attempt, retries, crashes", "id = ANY(%s)", [[one.request_id for one in queued]]
    )
    assert Counter(row[:2] for row in rows) == {("done", "ok"): QUEUED}
    charged = Counter((row[2], row[3], row[4]) for row in rows)
    print(f"attempts, retries, crashes: {dict(charged)}; runs: {[one.refused for one in runs]}")
    return charged


def drawing(machines: Machines) -> Node:
    """A machine that has a replica that draws, and is not the head."""
    found = next(node for node in reversed(machines.nodes) if machines.replicas("Diffuser").get(node.name))
    assert found is not machines.head
    return found


def stops(machines: Machines, on: str = "") -> bool:
    """Whether Serve has told a replica that draws, on the machine of this address if one is given, to stop when it has
    drawn what it has."""
    return any(one["state"] == "STOPPING" and on in ("", one["node_ip"]) for one in machines.listed("Diffuser"))


def wait_for_serve(promised: Callable[[], bool], timeout_s: float) -> None:
    """As `wait_until`, but not so often: to ask Serve takes a core that the machines share."""

    def looked() -> bool:
        time.sleep(0.5)
        return promised()

    wait_until(looked, timeout_s)


def ended(machines: Machines) -> int:
    return len(machines.rows("id", "state = 'done'"))


def away(
    machines: Machines, stop: Callable[[], None], start: Callable[[], None], is_missed: Callable[[], bool]
) -> Callable[[], None]:
    """A store is away for a minute, and what is drawn has to wait for it. is_missed: what shows that it is away."""

    def failing() -> None:
        stop()
        try:
            time.sleep(HELD_S)
            machines.hold.unlink()
            time.sleep(AWAY_S - HELD_S)
            assert is_missed()
        finally:
            start()

    return failing


async def test_a_database_that_is_away_for_a_minute(whole: Machines, key: str, clients: None) -> None:
    failing = away(whole, whole.database.stop, whole.database.start, lambda: not whole.is_ready())
    assert check(whole, await asked_meanwhile(whole, key, failing)) == {UNHARMED: QUEUED}


async def test_a_bucket_that_is_away_for_a_minute(whole: Machines, key: str, clients: None) -> None:
    before = ended(whole)

    def is_missed() -> bool:
        return not whole.is_ready() and ended(whole) < before + QUEUED

    failing = away(whole, whole.bucket.kill, whole.bucket.start, is_missed)
    assert check(whole, await asked_meanwhile(whole, key, failing)) == {UNHARMED: QUEUED}


async def test_the_heads_store_that_is_away_for_a_minute(whole: Machines, key: str, clients: None) -> None:
    """Ray's head ends without its Redis, and is started again as a supervisor would."""

    def back() -> None:
        whole.redis.start()
        if not whole.head.runs:
            whole.head.start()

    check(whole, await asked_meanwhile(whole, key, away(whole, whole.redis.stop, back, lambda: not whole.head.runs)))


@pytest.mark.parametrize("find", [drawing, Machines.leading])
async def test_a_worker_that_is_lost(
    whole: Machines, key: str, clients: None, find: Callable[[Machines], Node]
) -> None:
    """With a replica that draws, or with the Dispatcher that leads. Whatever else is on it goes with it, and what it
    drew or held is drawn again."""
    charged = check(whole, await asked_meanwhile(whole, key, lambda: find(whole).kill()))
    assert charged[UNHARMED] < QUEUED


async def test_a_worker_that_is_cut_off(whole: Machines, key: str, clients: None) -> None:
    """As one that loses its power: nobody is told that its connections have ended."""

    def failing() -> None:
        lost = drawing(whole)
        whole.network.unplug(lost.namespace)  # and so it stays until the next test
        lost.kill()

    charged = check(whole, await asked_meanwhile(whole, key, failing))
    assert charged[UNHARMED] < QUEUED


async def test_serves_controller_that_is_lost(whole: Machines, key: str, clients: None) -> None:
    def failing() -> None:
        def processes() -> set[int]:
            return {process.pid for process in whole.head.processes("ServeController")}

        former = processes()
        whole.head.kill("ServeController")
        wait_until(lambda: bool(processes() - former), NOTICED_S)

    assert check(whole, await asked_meanwhile(whole, key, failing)) == {UNHARMED: QUEUED}


async def test_a_head_that_is_lost_and_comes_back(whole: Machines, key: str, clients: None) -> None:
    """While it is away requests go on."""

    def failing() -> None:
        before = ended(whole)
        whole.head.kill()
        whole.hold.unlink()
        wait_until(lambda: ended(whole) > before, AWAY_S)
        whole.hold.touch()
        whole.head.start()
        assert ended(whole) < before + QUEUED + RUNS, "nothing was left for when it is back"

    check(whole, await asked_meanwhile(whole, key, failing))


@pytest.mark.parametrize("within_s", NOTICES_S)
async def test_a_worker_that_is_given_notice(whole: Machines, key: str, clients: None, within_s: float) -> None:
    """It is drained: another draws instead of it, while it ends what it has, and then nobody misses it."""

    def failing() -> None:
        lost = drawing(whole)
        words = [sys.executable, "-m", "deployments.drain", "--node", "--within", f"{within_s:g}"]
        with ThreadPoolExecutor(1) as pool:
            draining = pool.submit(lost.run, *words, timeout_s=within_s + NOTICED_S)
            wait_for_serve(lambda: stops(whole, lost.address), NOTICED_S)
            if within_s == max(NOTICES_S):  # there is time to let the other one begin first
                assert whole.running("Diffuser") == REPLICAS
            assert not draining.done(), "it still draws"
            whole.hold.unlink()
            draining.result()
        assert not whole.replicas("Diffuser")[lost.name]
        lost.kill()

    told = await asked_meanwhile(whole, key, failing)
    assert check(whole, told, runs_answered=True) == {UNHARMED: QUEUED}


async def test_fewer_replicas(whole: Machines, key: str, clients: None) -> None:
    """One of two stops while both draw."""

    def failing() -> None:
        content = holding(whole)
        scale(content, 1, 1, keep_s=1)
        whole.give(content)
        wait_for_serve(lambda: stops(whole), NOTICED_S)
        whole.hold.unlink()
        wait_for_serve(lambda: [one["state"] for one in whole.listed("Diffuser")] == ["RUNNING"], STARTED_S)

    try:
        told = await asked_meanwhile(whole, key, failing)
    finally:
        whole.deploy(holding(whole))
    assert check(whole, told, runs_answered=True) == {UNHARMED: QUEUED}


async def test_a_rolling_update(whole: Machines, key: str, clients: None) -> None:
    """Of an argument, which starts everything anew: what is drawn ends where it is, the rest goes elsewhere."""

    def ids() -> set[str]:
        return {one["replica_id"] for name in DEFAULTS for one in whole.listed(name)}

    def failing() -> None:
        former = ids()
        assert len(former) >= len(DEFAULTS)
        content = holding(whole)
        content["applications"][0]["args"]["gateway"]["fetch_timeout_s"] = 21
        whole.give(content)
        wait_for_serve(lambda: stops(whole), NOTICED_S)
        whole.hold.unlink()
        wait_for_serve(lambda: not former & ids(), STARTED_S)
        whole.wait_until_it_runs()

    charged = check(whole, await asked_meanwhile(whole, key, failing), runs_answered=True)
    assert {one[1:] for one in charged} == {(0, 0)}
