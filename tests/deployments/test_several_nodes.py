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


def story(name: str, family: Path) -> dict[str, Any]:
    program = [sys.executable, "-m", "tests.deployments.several_nodes", name, str(family)]
    ran = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=570)
    assert ran.returncode == 0, ran.stderr
    (line,) = (line for line in ran.stdout.splitlines() if line.startswith("{"))  # Ray says more
    return dict(json.loads(line))


@pytest.fixture(scope="module")
def rolling(pocket_family_folder: Path) -> dict[str, Any]:
    return story("rolling", pocket_family_folder)


@pytest.fixture(scope="module")
def leaving(pocket_family_folder: Path) -> dict[str, Any]:
    return story("leaving", pocket_family_folder)


def test_several_nodes_that_could_have_a_state_each_are_refused_at_the_start(rolling: dict[str, Any]) -> None:
    assert re.search(r"gateway\.ledger_url.*2 nodes .*can host Gateway.*label_selector", rolling["refused"], re.DOTALL)


def test_labels_keep_everything_but_drawing_off_the_node_with_the_gpu(rolling: dict[str, Any]) -> None:
    assert rolling["where"] == {name: ["gpu" if name == "Diffuser" else "cpu"] for name in DEFAULTS}


def test_a_changed_bound_of_scaling_restarts_nothing(rolling: dict[str, Any]) -> None:
    assert rolling["bound changed"] == [[], []]


def test_a_changed_argument_rolls_everything_and_every_request_is_answered(rolling: dict[str, Any]) -> None:
    assert rolling["lost"] == rolling["new"] == sorted(DEFAULTS)
    assert {*rolling["statuses"]} == {200}


def test_a_node_that_is_drained_loses_no_request(leaving: dict[str, Any]) -> None:
    assert leaving["drained"] is True
    assert leaving["where after"]["Diffuser"] == ["other gpu"]
    assert {*leaving["statuses"]} == {200}


def test_a_node_that_comes_later_does_not_get_a_state_of_its_own(leaving: dict[str, Any]) -> None:
    assert "and this replica is on the node" in leaving["late"]
    assert "write gateway.ledger_url" in leaving["late"]
    assert leaving["where at last"]["Gateway"] == ["cpu"]
