"""The replica that draws dies while it draws."""

import httpx2
import pytest

from tests.cluster import kill_replicas
from tests.integration.calls import FAST, LONG, SMALL, result, run, submit, wait_for
from tests.integration.conftest import Service

pytestmark = pytest.mark.cluster


def test_its_request_ends_with_an_error_to_retry_and_the_next_is_drawn(client: httpx2.Client, service: Service) -> None:
    submitted = submit(client, FAST, LONG)
    wait_for(client, submitted, "IN_PROGRESS")
    kill_replicas(service.app, "Diffuser")
    answer = result(client, submitted)
    assert answer.status_code == 503
    assert answer.json()["error_type"] == answer.headers["x-fal-error-type"] == "runner_disconnected"
    assert answer.headers["x-fal-retryable"] == "true"
    assert run(client, FAST, SMALL)["images"]
