"""What a change of the config file restarts: the replicas of the whole app, deployed as `serve deploy` does it."""

import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx2
import pytest

from deployments.placement import DEFAULTS

# a Ray of its own and seven replicas that start three times: a minute and a half
pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(600)]

APP = "settings"
SETTLED_S = 240.0
BODY = {"prompt": "a cube" * 20}


class Deployed:
    """The app of one config, which may be changed."""

    def __init__(self, port: int, data: Path, family: Path) -> None:
        self._application: dict[str, Any] = {
            "name": APP,
            "route_prefix": f"/{APP}",
            "import_path": "deployments.app:build_app",
            "args": {"gateway": {"data_dir": str(data)}, "drawing": {"family": str(family), "threads": 1}},
            "deployments": [{"name": name, "graceful_shutdown_timeout_s": 2.0} for name in DEFAULTS],
        }
        self.listed("Dispatcher")["user_config"] = {"stop_grace_s": 0.5}
        self.listed("Diffuser")["autoscaling_config"] = {"min_replicas": 1, "max_replicas": 1}
        self._http = {"host": "127.0.0.1", "port": port}
        self.url = f"http://127.0.0.1:{port}/{APP}"

    def listed(self, name: str) -> dict[str, Any]:
        """What the config lists of a deployment, to be changed before `deploy`."""
        deployments: list[dict[str, Any]] = self._application["deployments"]
        return next(one for one in deployments if one["name"] == name)

    @property
    def args(self) -> dict[str, Any]:
        found: dict[str, Any] = self._application["args"]
        return found

    def deploy(self, settled: Callable[[Any], bool] | None = None) -> tuple[set[str], set[str]]:
        """Deploy what the config says now: the deployments that have lost replicas by it, and those with new ones.

        settled: whether an application, as Serve tells of it, has come to its end; that it runs, where it is not given.
        """
        from ray.serve.context import _get_global_client
        from ray.serve.schema import ServeDeploySchema

        client: Any = _get_global_client()
        before = self.replicas()
        content = {"http_options": self._http, "applications": [deepcopy(self._application)]}
        client.deploy_apps(ServeDeploySchema.model_validate(content))
        end = time.monotonic() + SETTLED_S
        while not (settled or _runs)(self._told()):
            assert time.monotonic() < end, self._told()
            time.sleep(0.2)
        after = self.replicas()
        lost = {name for name, known in before.items() if known - after.get(name, set())}
        new = {name for name, found in after.items() if found - before.get(name, set())}
        return lost, new

    def replicas(self) -> Mapping[str, set[str]]:
        """The ids of the replicas that run, by deployment."""
        told = self._told()
        deployments = {} if told is None else told["deployments"]
        return {
            name: {replica["replica_id"] for replica in one["replicas"] if replica["state"] == "RUNNING"}
            for name, one in deployments.items()
        }

    def _told(self) -> Any:
        from ray.serve.context import _get_global_client

        client: Any = _get_global_client()
        return client.get_serve_details()["applications"].get(APP)


def _runs(told: Any) -> bool:
    return told is not None and told["status"] == "RUNNING"


@pytest.fixture(scope="module")
def deployed(cluster: int, tmp_path_factory: pytest.TempPathFactory, pocket_family_folder: Path) -> Iterator[Deployed]:
    from ray import serve

    deployed = Deployed(cluster, tmp_path_factory.mktemp("settings"), pocket_family_folder)
    assert deployed.deploy() == (set(), {*DEFAULTS})
    yield deployed
    serve.delete(APP)


def submitted(deployed: Deployed) -> int:
    return httpx2.post(f"{deployed.url}/queue/fal-ai/fooocus", json=BODY, timeout=30).status_code


def test_a_limit_holds_at_once_restarts_nothing_and_ends_when_it_is_listed_no_more(deployed: Deployed) -> None:
    assert submitted(deployed) == 200
    deployed.listed("Gateway")["user_config"] = {"max_body_bytes": 100}
    assert deployed.deploy() == (set(), set())
    assert submitted(deployed) == 413
    del deployed.listed("Gateway")["user_config"]
    assert deployed.deploy() == (set(), set())
    assert submitted(deployed) == 200


def test_more_replicas_restart_nothing(deployed: Deployed) -> None:
    deployed.listed("Preprocessor")["num_replicas"] = 2
    assert deployed.deploy() == (set(), {"Preprocessor"})


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("Gateway", "max_ongoing_requests", 200),
        ("Dispatcher", "graceful_shutdown_timeout_s", 3.0),
        ("Dispatcher", "health_check_timeout_s", 9.0),
        ("Diffuser", "autoscaling_config", {"min_replicas": 1, "max_replicas": 2}),
    ],
)
def test_how_serve_looks_after_a_replica_changes_in_place(
    deployed: Deployed, name: str, option: str, value: object
) -> None:
    deployed.listed(name)[option] = value
    assert deployed.deploy() == (set(), set())


def test_what_a_replica_books_restarts_its_deployment_alone(deployed: Deployed) -> None:
    deployed.listed("SafetyChecker")["ray_actor_options"] = {"num_cpus": 0.2}
    assert deployed.deploy() == ({"SafetyChecker"}, {"SafetyChecker"})


def test_an_argument_restarts_everything(deployed: Deployed) -> None:
    deployed.args["output"] = {"jpeg_quality": 80}
    assert deployed.deploy() == ({*DEFAULTS}, {*DEFAULTS})


def test_limits_that_cannot_be_fail_the_deployment_with_a_sentence(deployed: Deployed) -> None:
    deployed.listed("Gateway")["user_config"] = {"max_wating": 3}

    def failed(told: Any) -> bool:
        return "did you mean max_waiting?" in told["deployments"]["Gateway"]["message"]

    assert deployed.deploy(failed)[0] == {"Gateway"}
    del deployed.listed("Gateway")["user_config"]
    assert deployed.deploy() == (set(), {"Gateway"})
    assert submitted(deployed) == 200
