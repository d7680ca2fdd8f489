"""The route `/mcp`: streamable HTTP without sessions, each call complete in itself, so that any replica answers it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http import check_accept_headers
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from gateway.files.uploads import Uploads
from gateway.http.hosts import MCP
from gateway.http.queue import RequestQueue
from gateway.http.request_body import json_bytes
from gateway.http.routes import Route
from gateway.http.run import SyncRuns
from gateway.keys.base import Scope as KeyScope
from gateway.mcp.tools import RUN, Calling, Tools
from gateway.settings import GatewaySettings

T = TypeVar("T")

INSTRUCTIONS = (
    "Draws pictures. list_endpoints says what there is to draw with, schema what an endpoint takes. run draws "
    "and waits; submit, status and result do it in the background, and cancel ends it. A picture in an input is an "
    "http(s) address, a data URI, or the address that upload has answered."
)


def mcp_routes(runs: SyncRuns, requests: RequestQueue, uploads: Uploads | None) -> list[Route]:
    # no GET, whose stream would be for what the server says of itself, and no DELETE, for there are no sessions
    endpoint = _Endpoint(server_of(Tools(runs, requests, uploads)), runs.parts.settings)
    return [Route(MCP, endpoint, methods=["POST"], needs=KeyScope.RUN, bearer=True)]


def server_of(tools: Tools) -> Server[dict[str, Any]]:
    async def list_tools(
        context: ServerRequestContext[dict[str, Any]], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult(tools=[*tools.listed.values()])

    async def call_tool(context: ServerRequestContext[dict[str, Any]], params: CallToolRequestParams) -> CallToolResult:
        if params.name not in tools.listed:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name[:100]}")
        assert isinstance(context.request, Request)  # noqa: S101 (there is no other transport)
        listens = "progress_token" in (context.meta or {})
        calling = Calling(context.request, context.session.report_progress if listens else None)
        return await _apart(tools.call(params.name, calling, params.arguments or {}))

    def schema_of(name: str) -> dict[str, Any] | None:
        tool = tools.listed.get(name)
        return None if tool is None else tool.input_schema

    return Server(
        "fooocus-serve",
        title="Fooocus Serve",
        version="1",
        instructions=INSTRUCTIONS,
        get_tool_input_schema=schema_of,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def _apart(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` in a task of its own, which is cancelled once where this one is, and then has time to tidy up.

    The library cancels again at every wait, which no tidying up would survive.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait({task})
        raise


class _Endpoint:
    """Reads a call's body within the limits of all bodies, and hands it to the library. A run is answered by a stream,
    which says how far it is and keeps the connection; everything else as JSON.
    """

    def __init__(self, server: Server[dict[str, Any]], settings: GatewaySettings) -> None:
        self._server, self._settings = server, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await json_bytes(request, self._settings.max_body_bytes)
        _, takes_streams = check_accept_headers(request)
        manager = StreamableHTTPSessionManager(
            self._server,
            stateless=True,
            # a wrong guess harms nobody: who takes streams takes either
            json_response=not (takes_streams and f'"{RUN}"'.encode() in body),
            max_request_body_size=max(1, len(body)),
        )
        async with manager.run():  # for this call alone: whatever it has begun ends with it
            await manager.handle_request(scope, _Replayed(body, receive), send)


class _Replayed:
    """What the server says of a call whose body has been read: that body again, then the rest."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}
