"""The route `/mcp` by itself: JSON where the answer is there at once, no session, and the guards of all routes."""

from collections.abc import Mapping
from typing import Any

import httpx2
import pytest

from gateway.app import Parts
from tests.gateway.fakes import FAST, INPUT

BOTH = {"accept": "application/json, text/event-stream"}
LIST: Mapping[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
RUN: Mapping[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "run", "arguments": {"endpoint_id": FAST, "input": {**INPUT}}},
}


async def test_what_is_known_at_once_is_answered_as_json_without_a_session(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/mcp", json=LIST, headers=BOTH)
    assert answer.headers["content-type"] == "application/json"
    assert "mcp-session-id" not in answer.headers
    assert len(answer.json()["result"]["tools"]) == 8


@pytest.mark.usefixtures("dispatched")
@pytest.mark.parametrize(
    ("accept", "content_type"), [("application/json", "application/json"), (BOTH["accept"], "text/event-stream")]
)
async def test_a_run_streams_to_who_takes_streams(server: str, accept: str, content_type: str) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{server}/mcp", json=RUN, headers={"accept": accept})
    assert answer.headers["content-type"].startswith(content_type)
    assert "/files/outputs/" in answer.text


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_there_is_neither_a_stream_nor_a_session_of_its_own(client: httpx2.AsyncClient, method: str) -> None:
    answer = await client.request(method, "/mcp", headers=BOTH)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 400),  # a name that was made to lead here
        ({"origin": "https://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"origin": "https://app.example"}, 200),  # of cors_origins
    ],
)
async def test_a_page_may_not_call_where_no_key_would_stop_it(
    client: httpx2.AsyncClient, headers: Mapping[str, str], status: int
) -> None:
    answer = await client.post("/mcp", json=LIST, headers={**BOTH, **headers})
    assert answer.status_code == status


async def test_a_body_has_the_cap_of_all_bodies(client: httpx2.AsyncClient, parts: Parts) -> None:
    parts.settings.max_body_bytes = 1000
    answer = await client.post("/mcp", json={**LIST, "params": {"x": "x" * 1000}}, headers=BOTH)
    assert answer.status_code == 413


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 15_000, b'{"jsonrpc": "2.0"}'])
async def test_what_is_no_message_is_told_so(client: httpx2.AsyncClient, content: bytes) -> None:
    answer = await client.post("/mcp", content=content, headers={**BOTH, "content-type": "application/json"})
    assert answer.status_code == 400
