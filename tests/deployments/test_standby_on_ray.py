"""Two dispatchers of which one leads: the other one does when that one is lost or stops, and every request is drawn."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from deployments.drain import drain
from gateway.ledger.models import State
from gateway.ledger.store import SqlLedger
from gateway.worker.leading import LOOK_S
from tests.deployments.deployed import APP, Deployed
from tests.deployments.scaled import SPEC, Scaled
from tests.gateway.ledger.works import engine_of

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(500)]

BURST = 24
LEASE_S = 4.0
SLACK_S = 5.0  # of a machine that has others to do
PATIENCE_S = 150.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("standby")


@pytest.fixture(scope="module")
def deployed(cluster: int, data: Path, pocket_family_folder: Path) -> Iterator[Deployed]:
    from ray import serve

    deployed = Deployed(cluster, data, pocket_family_folder, "tests.deployments.scaling_app:build_app")
    deployed.args["gateway"] |= {"tick_s": 0.2, "lease_s": LEASE_S, "leader_lease_s": LEASE_S}
    deployed.args["drawing"]["rows"] = 4
    deployed.args["points"] = [(1.0, 1000 / SPEC.steps), (4.0, 1000 / SPEC.steps)]  # a second for each call's pictures
    deployed.listed("Dispatcher").update(
        num_replicas=2, user_config={"stop_grace_s": 20}, graceful_shutdown_timeout_s=30.0
    )
    deployed.deploy()
    yield deployed
    serve.delete(APP)


@pytest.fixture
async def scaled(deployed: Deployed, data: Path) -> AsyncIterator[Scaled]:
    ledger = await SqlLedger.open(f"sqlite:///{data / 'ledger.db'}")
    yield Scaled(data, ledger, SPEC)
    await ledger.close()


async def submitted(scaled: Scaled) -> list[str]:
    """Requests, of which some are drawn by now and others wait."""
    ids = await scaled.submit(BURST)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            states = [status.state for status in (await scaled.ledger.statuses(ids)).values()]
            if State.DONE in states and State.RUNNING in states:
                assert State.QUEUED in states
                return ids
            await asyncio.sleep(0.05)


def attempts(data: Path, ids: list[str], column: str) -> int:
    """How many more than one, or than none, the requests took together."""
    engine = engine_of(f"sqlite:///{data / 'ledger.db'}")
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(f"SELECT id, {column} FROM request").all()  # noqa: S608 (ours)
    engine.dispose()
    return sum(value for name, value in rows if name in ids)


def leader(data: Path) -> str | None:
    """The one whose lease it is; None while nobody has it."""
    engine = engine_of(f"sqlite:///{data / 'ledger.db'}")
    with engine.connect() as connection:
        names = [str(name) for (name,) in connection.exec_driver_sql("SELECT name FROM leader")]
    engine.dispose()
    assert len(names) <= 1  # one service
    return names[0] if names else None


async def until_another_leads(data: Path, first: str | None) -> float:
    """How many seconds it took."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE_S):
        while leader(data) in (None, first):  # noqa: ASYNC110 (another process's doing)
            await asyncio.sleep(0.05)
    return time.monotonic() - began


def kill(replica: str) -> None:
    import ray
    from ray.util import list_named_actors

    (actor,) = [one for one in list_named_actors(all_namespaces=True) if one["name"].endswith(f"#{replica}")]
    ray.kill(ray.get_actor(actor["name"], namespace=actor["namespace"]))


async def until_whole(deployed: Deployed) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not (deployed.is_whole() and len(deployed.replicas()["Dispatcher"]) == 2):  # noqa: ASYNC110 (Serve's)
            await asyncio.sleep(0.2)


async def until_ready(deployed: Deployed) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client, asyncio.timeout(PATIENCE_S):
        while (await client.get(f"{deployed.url}/ready")).status_code != 200:  # noqa: ASYNC110 (Serve's)
            await asyncio.sleep(0.1)


async def test_the_second_leads_within_the_lease_of_one_that_is_lost_and_draws_all(
    deployed: Deployed, data: Path, scaled: Scaled
) -> None:
    await until_whole(deployed)
    ids, first = await submitted(scaled), leader(data)
    assert first is not None
    kill(first)
    took_s = await until_another_leads(data, first)
    assert took_s < LEASE_S + LOOK_S + SLACK_S
    await until_ready(deployed)
    await scaled.until_drawn(ids)
    # those that the lost one held are drawn anew, and nothing else
    assert attempts(data, ids, "attempt - 1") == attempts(data, ids, "retries") > 0
    print(f"another led after {took_s:.1f} s")


async def test_one_that_stops_in_order_hands_over_and_no_request_has_lost_anything(
    deployed: Deployed, data: Path, scaled: Scaled
) -> None:
    await until_whole(deployed)
    ids, both = await submitted(scaled), deployed.replicas()["Dispatcher"]
    deployed.listed("Dispatcher")["ray_actor_options"] = {"num_cpus": 0.11}  # which rolls both
    rolled = asyncio.create_task(asyncio.to_thread(deployed.deploy, lambda _: not both & who_run(deployed)))
    await scaled.until_drawn(ids)
    await rolled
    assert attempts(data, ids, "retries") == 0
    await until_whole(deployed)
    assert leader(data) in who_run(deployed)
    await until_ready(deployed)


def who_run(deployed: Deployed) -> set[str]:
    return {*deployed.replicas().get("Dispatcher", set())}


async def test_draining_reaches_the_one_that_leads(deployed: Deployed, data: Path, scaled: Scaled) -> None:
    await until_whole(deployed)
    ids, first = await submitted(scaled), leader(data)
    await asyncio.to_thread(drain, APP, PATIENCE_S)
    statuses = (await scaled.ledger.statuses(ids)).values()
    assert {status.state for status in statuses} <= {State.DONE, State.QUEUED}
    assert leader(data) == first  # nobody takes over what is to go
    await scaled.until_drawn(ids)  # and without a shutdown it begins again
