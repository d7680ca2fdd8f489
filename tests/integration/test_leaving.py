"""Requests that nobody wants any more leave the engine, also where their client just went away."""

import socket
import time
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.integration.calls import FAST, LONG, SMALL, result, run, submit, wait_for, wait_until
from tests.integration.conftest import Service

pytestmark = pytest.mark.cluster

SOON_S = 10.0  # a step of eight pictures, on a machine with other work


def test_a_cancelled_request_leaves_the_engine(client: httpx2.Client, service: Service) -> None:
    submitted = submit(client, FAST, LONG)
    wait_for(client, submitted, "IN_PROGRESS")
    wait_until(lambda: service.stats().live_jobs == 1, "the job to be drawn")
    assert client.put(submitted["cancel_url"]).status_code == 202
    wait_until(lambda: service.stats().live_jobs == 0, "the job to leave", SOON_S)
    answer = result(client, submitted)
    assert answer.status_code == 499
    assert answer.headers["x-fal-error-type"] == "client_cancelled"


def test_a_request_cancelled_at_once_is_not_drawn(client: httpx2.Client, service: Service) -> None:
    submitted = submit(client, FAST, LONG)
    assert client.put(submitted["cancel_url"]).status_code == 202
    assert result(client, submitted).status_code == 499
    wait_until(lambda: service.stats().live_jobs == 0, "the job to leave", SOON_S)


def test_the_job_of_a_sync_client_that_hangs_up_leaves_the_engine(client: httpx2.Client, service: Service) -> None:
    run(client, FAST, SMALL)
    wait_until(lambda: service.stats().live_jobs == 0, "an idle engine")
    request = httpx2.Request("POST", f"{service.base_url}/{FAST}", json=LONG)
    host = urlsplit(service.base_url)
    lines = [f"POST /{FAST} HTTP/1.1", f"host: {host.netloc}", "content-type: application/json"]
    head = "\r\n".join([*lines, f"content-length: {len(request.content)}", "", ""])
    with socket.create_connection((host.hostname or "", host.port or 0)) as connection:
        connection.sendall(head.encode() + request.content)
        wait_until(lambda: service.stats().live_jobs == 1, "the job to be drawn")
    left = time.monotonic()
    wait_until(lambda: service.stats().live_jobs == 0, "the job to leave", SOON_S)
    assert time.monotonic() - left < SOON_S
