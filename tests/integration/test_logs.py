"""What happens in the service is found in its logs, a JSON line each."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import ray

from tests.integration.calls import FAST, SMALL, run, wait_until

pytestmark = pytest.mark.cluster


def lines() -> Iterator[dict[str, Any]]:
    """Those of all replicas so far."""
    session = ray.get_runtime_context().get_session_name()
    for file in Path("/tmp/ray", session, "logs", "serve").glob("replica_service_*.log"):
        for line in file.read_text().splitlines():
            yield json.loads(line)


def test_the_dispatcher_tells_which_weights_a_replica_has(client: httpx2.Client) -> None:
    run(client, FAST, SMALL)
    wait_until(
        lambda: any("can hold" in line["message"] and "pocket" in line["message"] for line in lines()), "the line"
    )


def test_reports_that_come_every_second_are_not_calls_to_log(client: httpx2.Client) -> None:
    run(client, FAST, SMALL)
    wait_until(lambda: any(line["message"].startswith("CALL ") for line in lines()), "a call")
    assert not [line for line in lines() if line["message"].startswith("CALL report")]


def test_a_field_that_nobody_knows_is_told_with_its_request(client: httpx2.Client) -> None:
    name = f"field-{uuid4().hex}"
    run(client, FAST, {**SMALL, name: 1})
    wait_until(lambda: any(name in line["message"] for line in lines()), "the line")
