"""The published client in front of a real server with the app, under the guard."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, ImageContent, TextContent

from gateway.app import Parts
from tests.clients.guard import Guard
from tests.gateway.http.conftest import (
    client,
    dispatch,
    dispatched,
    dispatcher,
    keys,
    locked,
    parts,
    reach,
    server,
    serving,
)
from tests.gateway.openai.conftest import guard, runner

__all__ = [
    "client",
    "dispatch",
    "dispatched",
    "dispatcher",
    "guard",
    "keys",
    "locked",
    "parts",
    "reach",
    "runner",
    "server",
]

LEGACY, MODERN = "legacy", "2026-07-28"


@asynccontextmanager
async def connected(address: str, mode: str = "auto", headers: dict[str, str] | None = None) -> AsyncIterator[Client]:
    """The client at a server's address."""
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=30) as http,
        Client(streamable_http_client(f"{address}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


@pytest.fixture
async def address(parts: Parts, guard: Guard) -> AsyncIterator[str]:
    async with serving(parts) as address:
        with guard.watching():
            yield address


@dataclass(frozen=True)
class Calls:
    """Each call by a client of its own: the library's must end in the task in which it began."""

    address: str

    async def call_tool(self, name: str, arguments: dict[str, Any] | None = None) -> CallToolResult:
        async with connected(self.address, MODERN) as client:
            return await client.call_tool(name, arguments)


@pytest.fixture
async def mcp(address: str) -> Calls:
    return Calls(address)


def structure(result: CallToolResult, is_error: bool = False) -> dict[str, Any]:
    """What a tool has answered; as text it says the same."""
    assert result.is_error is is_error, result
    (text,) = (block.text for block in result.content if isinstance(block, TextContent))
    assert json.loads(text) == result.structured_content
    found: dict[str, Any] = result.structured_content
    return found


def images(result: CallToolResult) -> list[tuple[bytes, str]]:
    return [(base64.b64decode(one.data), one.mime_type) for one in result.content if isinstance(one, ImageContent)]
