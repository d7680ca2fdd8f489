"""A deployed app with replicas that sleep, for tests on Ray: its config, what is submitted to it, how it scales."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from deployments.placement import DEFAULTS, POLICY
from gateway.ledger.models import Outcome, State
from gateway.ledger.store import SqlLedger
from gateway.work import Delivery, Work
from pipelines.spec import Guidance, Size, Spec

APP, ENDPOINT = "scaling", "fal-ai/fooocus"
MOST = 6
PATIENCE_S = 120.0
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


class Scaled:
    """The app, and its ledger beside it. spec: of each request."""

    def __init__(self, data: Path, ledger: SqlLedger, spec: Spec) -> None:
        self.data, self.ledger, self._spec = data, ledger, spec

    async def submit(self, number: int) -> list[str]:
        """Their ids. Past the gateway, which would take as long as the replicas do to come."""
        works = [
            Work(
                request_id=str(uuid4()),
                endpoint=ENDPOINT,
                spec=self._spec,
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


@contextmanager
def deployed(
    port: int, data: Path, family: Path, points: Sequence[tuple[float, float]], rows: int, rules: Mapping[str, float]
) -> Iterator[Path]:
    """Its data folder, as long as it is deployed, as `serve deploy` does it. points: of the cost of a call."""
    from ray import serve
    from ray.serve.schema import ServeDeploySchema

    content = _config(port, data, family, points, rows, rules)
    _client().deploy_apps(ServeDeploySchema.model_validate(content))
    end = time.monotonic() + 240
    while (told := _client().get_serve_details()["applications"].get(APP)) is None or told["status"] != "RUNNING":
        assert time.monotonic() < end, told
        time.sleep(0.2)
    yield data
    serve.delete(APP)


def _config(
    port: int, data: Path, family: Path, points: Sequence[tuple[float, float]], rows: int, rules: Mapping[str, float]
) -> dict[str, Any]:
    listed: dict[str, dict[str, Any]] = {name: {"graceful_shutdown_timeout_s": 30.0} for name in DEFAULTS}
    listed["Dispatcher"] |= {
        "user_config": {"stop_grace_s": 0.5, "scaling": dict(rules)},
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
        "points": points,
        "gateway": {"data_dir": str(data), "tick_s": 0.2},
        "drawing": {"family": str(family), "threads": 1, "rows": rows},
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
