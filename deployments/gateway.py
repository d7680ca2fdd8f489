"""The deployment that clients talk to: the gateway's HTTP application on Serve."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ray.serve.context import _get_global_client
from starlette.applications import Starlette

from deployments.binding import check_host
from deployments.graph import Graph, Handle, Stages
from deployments.logs import log_as_serve_does
from gateway.app import Parts, create_app
from gateway.files.opening import files_of
from gateway.keys.sql import SqlKeys
from gateway.ledger.opening import open_ledger
from gateway.settings import GatewaySettings


class Gateway:
    """Answers clients, from the ledger and the files store; a sync run goes through the graph from here.

    dispatcher: not called from here, but what the ingress does not know Serve does not deploy.
    """

    async def __init__(self, settings: GatewaySettings, stages: Stages, dispatcher: Handle) -> None:  # type: ignore[misc]
        log_as_serve_does()
        await asyncio.to_thread(_check_binding, settings)
        self._settings = settings
        self._graph = Graph(stages)
        self._ledger = await open_ledger(settings)
        self._keys = await SqlKeys.open(settings.ledger_address) if settings.keys == "required" else None

    def __serve_build_asgi_app__(self) -> Starlette:
        files, graph, ledger = files_of(self._settings), self._graph, self._ledger
        app = create_app(Parts(self._settings, ledger, files, graph, graph.can_draw, self._keys, ledger.history))
        app.router.lifespan_context = self._lifespan
        return app

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield  # until Serve has drained the replica
        await self._ledger.close()
        if self._keys is not None:
            await self._keys.close()


def _check_binding(settings: GatewaySettings) -> None:
    client: Any = _get_global_client()
    check_host(client.http_config.host, settings.keys == "required")
