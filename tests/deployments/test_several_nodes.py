"""The whole app on several nodes of which one has the state: where things are, what rolls, what is refused."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deployments.placement import DEFAULTS
from tests.cluster import ROOT

# nodes that start one after another, and an app that starts three times
pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def told(pocket_family_folder: Path) -> dict[str, Any]:
    program = [sys.executable, "-m", "tests.deployments.several_nodes", str(pocket_family_folder)]
    ran = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=570)
    assert ran.returncode == 0, ran.stderr
    (line,) = (line for line in ran.stdout.splitlines() if line.startswith("{"))  # Ray says more
    return dict(json.loads(line))


def test_several_nodes_that_could_have_a_state_each_are_refused_at_the_start(told: dict[str, Any]) -> None:
    assert re.search(r"gateway\.ledger_url.*2 nodes .*can host Gateway.*label_selector", told["refused"], re.DOTALL)


def test_labels_keep_everything_but_drawing_off_the_node_with_the_gpu(told: dict[str, Any]) -> None:
    assert told["where"] == {name: ["gpu" if name == "Diffuser" else "cpu"] for name in DEFAULTS}


def test_a_changed_bound_of_scaling_restarts_nothing(told: dict[str, Any]) -> None:
    assert told["bound changed"] == [[], []]


def test_a_changed_argument_rolls_everything_and_every_request_is_answered(told: dict[str, Any]) -> None:
    rolled = told["rolled"]
    assert rolled["lost"] == rolled["new"] == sorted(DEFAULTS)
    assert len(rolled["statuses"]) > 3
    assert {*rolled["statuses"]} == {200}


def test_a_node_that_is_drained_loses_no_request(told: dict[str, Any]) -> None:
    assert told["drained"] is True
    assert told["where after"]["Diffuser"] == ["other gpu"]
    assert {*told["statuses of the drain"]} == {200}


def test_a_node_that_comes_later_does_not_get_a_state_of_its_own(told: dict[str, Any]) -> None:
    assert "and this replica is on the node" in told["late"]
    assert "write gateway.ledger_url" in told["late"]
    assert told["where at last"]["Gateway"] == ["cpu"]
