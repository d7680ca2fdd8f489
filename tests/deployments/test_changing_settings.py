"""What a change of the config file restarts: the replicas of the whole app, deployed as `serve deploy` does it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from deployments.placement import DEFAULTS
from tests.deployments.deployed import APP, Deployed

# a Ray of its own and seven replicas that start three times: a minute and a half
pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(600)]

BODY = {"prompt": "a cube" * 20}


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
