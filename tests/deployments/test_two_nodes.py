"""Stages on another node than the dispatcher: what crosses its node."""

import json
import subprocess
import sys

import pytest

from tests.cluster import ROOT


@pytest.mark.cluster
@pytest.mark.long
def test_arrays_do_not_come_to_the_node_that_only_passes_them_on() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.deployments.two_nodes"], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert ran.returncode == 0, ran.stderr
    (told,) = (json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{"))  # Ray says more
    for name in ("pixels", "inputs"):
        assert told[name]["object_size"] > 512 * 512 * 3
        (node,) = told[name]["node_ids"]
        assert node != told["here"]
