"""The policy in Serve: replicas that sleep come for a burst, all at once, and go when it is over."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from deployments.placement import DEFAULTS, POLICY
from gateway.ledger.models import Outcome, State
from gateway.ledger.store import SqlLedger
from gateway.work import Delivery, Work
from pipelines.row_steps import row_steps_of
from pipelines.spec import Guidance, Size, Spec
from tests.deployments.scaling_app import SILENT

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(500)]

APP, ENDPOINT = "scaling", "fal-ai/fooocus"
MOST, BURST = 6, 60
PATIENCE_S = 120.0
REACTION_S = 3.0  # of which two are one interval in which figures are made and one in which they are sent
SPEC = Spec(
    prompt="a cube",
    size=Size(width=256, height=256),
    seeds=(7,),
    steps=15,
    sampler="euler",
    schedule="sgm_uniform",
    guidance=Guidance(scale=4.0),
    check_safety=False,
)
RULES = {
    "wait_s": 10,
    "start_s": 0,
    "keep_s": 4,
    "zero_s": 8,
    "stale_s": 3,
    "ms_per_row_step": 1000 / row_steps_of(SPEC),
}


class Scaled:
    """The app, and its ledger beside it."""

    def __init__(self, data: Path, ledger: SqlLedger) -> None:
        self.data, self.ledger = data, ledger

    async def submit(self, number: int) -> list[str]:
        """Their ids. Past the gateway, which would take as long as the replicas do to come."""
        works = [
            Work(
                request_id=str(uuid4()),
                endpoint=ENDPOINT,
                spec=SPEC,
                delivery=Delivery(format="jpeg"),
                base_url="http://127.0.0.1:8000",
            )
            for _ in range(number)
        ]
        await asyncio.gather(*(self.ledger.submit(work, ENDPOINT) for work in works))
        return [work.request_id for work in works]

    async def until_drawn(self, ids: list[str]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while statuses := (await self.ledger.statuses(ids)).values():
                assert all(status.outcome in (None, Outcome.OK) for status in statuses)
                if all(status.state is State.DONE for status in statuses):
                    return
                await asyncio.sleep(0.1)

    def diffusers(self) -> tuple[int, int]:
        """How many there should be, and how many run."""
        told = _client().get_serve_details()["applications"][APP]["deployments"]["Diffuser"]
        running = sum(replica["state"] == "RUNNING" for replica in told["replicas"])
        return int(told["target_num_replicas"]), running

    async def until(self, target: int, running: int | None = None) -> list[int]:
        """Wait for so many; the targets on the way, each as often as it came anew."""
        targets: list[int] = []
        async with asyncio.timeout(PATIENCE_S):
            while True:
                seen = self.diffusers()
                if targets[-1:] != [seen[0]]:
                    targets.append(seen[0])
                if seen[0] == target and running in (None, seen[1]):
                    return targets
                await asyncio.sleep(0.05)


def _client() -> Any:
    from ray.serve.context import _get_global_client

    return _get_global_client()


def _config(port: int, data: Path, family: Path) -> dict[str, Any]:
    listed: dict[str, dict[str, Any]] = {name: {"graceful_shutdown_timeout_s": 30.0} for name in DEFAULTS}
    listed["Dispatcher"] |= {
        "user_config": {"stop_grace_s": 0.5, "scaling": RULES},
        "autoscaling_config": {
            "min_replicas": 1,
            "max_replicas": 1,
            "metrics_interval_s": 1.0,
            "look_back_period_s": 5.0,
        },
    }
    listed["Diffuser"]["autoscaling_config"] = {
        "min_replicas": 0,
        "max_replicas": MOST,
        "upscale_delay_s": 0,
        "downscale_delay_s": 0,
        "metrics_interval_s": 1.0,  # so that Serve soon forgets the calls that were
        "look_back_period_s": 5.0,
    }
    listed["Preprocessor"]["autoscaling_config"] = {"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 50}
    args = {
        "ms_per_row_step": RULES["ms_per_row_step"],
        "gateway": {"data_dir": str(data), "tick_s": 0.2},
        "drawing": {"family": str(family), "threads": 1, "rows": 4},
    }
    application = {
        "name": APP,
        "route_prefix": f"/{APP}",
        "import_path": "tests.deployments.scaling_app:build_app",
        "args": args,
        "autoscaling_policy": {"policy_function": POLICY},
        "deployments": [{"name": name, **options} for name, options in listed.items()],
    }
    return {"http_options": {"host": "127.0.0.1", "port": port}, "applications": [application]}


@pytest.fixture(scope="module")
def data(cluster: int, tmp_path_factory: pytest.TempPathFactory, pocket_family_folder: Path) -> Iterator[Path]:
    """The data folder of the app, which is deployed as `serve deploy` does it."""
    from ray import serve
    from ray.serve.schema import ServeDeploySchema

    data = tmp_path_factory.mktemp("scaling")
    content = _config(cluster, data, pocket_family_folder)
    _client().deploy_apps(ServeDeploySchema.model_validate(content))
    end = time.monotonic() + 240
    while (told := _client().get_serve_details()["applications"].get(APP)) is None or told["status"] != "RUNNING":
        assert time.monotonic() < end, told
        time.sleep(0.2)
    yield data
    serve.delete(APP)


@pytest.fixture
async def scaled(data: Path) -> Any:
    ledger = await SqlLedger.open(f"sqlite:///{data / 'ledger.db'}")
    yield Scaled(data, ledger)
    await ledger.close()


async def test_a_burst_has_all_its_replicas_asked_for_in_one_step_and_none_is_left(scaled: Scaled) -> None:
    assert scaled.diffusers() == (0, 0)
    began = time.monotonic()
    ids = await scaled.submit(BURST)
    assert await scaled.until(MOST) == [0, MOST]
    reacted_s = time.monotonic() - began
    assert reacted_s < REACTION_S
    assert await scaled.until(MOST, running=MOST) == [MOST]
    ran_s = time.monotonic() - began
    drawn = asyncio.create_task(scaled.until_drawn(ids))
    down = await scaled.until(0, running=0)
    assert drawn.done()
    await drawn
    assert down == sorted(down, reverse=True)  # none has come again meanwhile
    print(
        f"target after {reacted_s:.1f} s, {MOST} ran after {ran_s:.1f} s, none after {time.monotonic() - began:.1f} s"
    )


async def test_nothing_changes_while_there_are_no_figures(scaled: Scaled) -> None:
    ids = await scaled.submit(BURST)
    await scaled.until(MOST)
    (scaled.data / SILENT).touch()
    await scaled.until_drawn(ids)
    quiet = time.monotonic() + 2 * (RULES["keep_s"] + RULES["zero_s"])
    while time.monotonic() < quiet:
        assert scaled.diffusers()[0] == MOST
        await asyncio.sleep(0.2)
    (scaled.data / SILENT).unlink()
    await scaled.until(0, running=0)
