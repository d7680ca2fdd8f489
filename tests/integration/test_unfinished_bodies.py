"""Strangers that begin more calls than a gateway may have, and send no more, stop nobody."""

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.integration.calls import FAST, SMALL, result, wait_until
from tests.integration.conftest import Service

pytestmark = pytest.mark.cluster

MANY = 520
PLACES = 225  # for bodies, of 500 calls
SOON_S = 8.0  # less than `body_grace_s`, after which those that stall are ended


def test_520_unfinished_bodies_leave_health_and_a_submit_working(service: Service) -> None:
    host = urlsplit(service.base_url)
    lines = [f"POST /queue/{FAST} HTTP/1.1", f"host: {host.netloc}", "content-length: 1000"]
    with ExitStack() as stack:
        stalled = [
            stack.enter_context(socket.create_connection((host.hostname or "", host.port or 0))) for _ in range(MANY)
        ]
        for connection in stalled:
            connection.sendall("\r\n".join([*lines, "", "{"]).encode())
        with httpx2.Client(base_url=service.base_url, timeout=SOON_S, trust_env=False) as client:
            assert client.get("/health").status_code == 200
            answer = client.post(f"/queue/{FAST}", json=SMALL)
            assert answer.status_code == 200, answer.text
            wait_until(lambda: _answered(stalled) >= MANY - PLACES, "those beyond the places to be ended")
            assert client.get("/health").status_code == 200
            assert result(client, answer.json()).status_code == 200


def _answered(connections: Sequence[socket.socket]) -> int:
    """How many have been ended; all of them as too slow, or as too many at once."""
    count = 0
    for connection in connections:
        connection.setblocking(False)
        try:
            head = connection.recv(12, socket.MSG_PEEK)
        except BlockingIOError:
            continue
        assert head in (b"HTTP/1.1 408", b"HTTP/1.1 503")
        count += 1
    return count
