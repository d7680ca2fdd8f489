"""The deployment that clients talk to: the gateway's HTTP application on Serve."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ray.serve.context import _get_global_client
from starlette.applications import Starlette

from deployments.binding import check_host
from deployments.dispatcher_link import DispatcherHandle, Handle
from deployments.graph import Graph, Stages
from deployments.logs import log_as_serve_does
from gateway.app import Parts, create_app
from gateway.files.opening import files_of
from gateway.housekeeping import Housekeeping
from gateway.keys.sql import SqlKeys
from gateway.ledger.opening import open_ledger
from gateway.reaping import Reaper
from gateway.settings import GatewaySettings


class Gateway:
    """Answers clients, from the ledger and the files store; a sync run waits here while the dispatcher has it drawn.

    It also frees what lost dispatchers hold, for one that hangs frees nothing itself.
    """

    async def __init__(self, settings: GatewaySettings, stages: Stages, dispatcher: Handle) -> None:  # type: ignore[misc]
        log_as_serve_does()
        await asyncio.to_thread(_check_binding, settings)
        self._settings, self._dispatcher = settings, DispatcherHandle(dispatcher)
        self._graph = Graph(stages)
        self._ledger = await open_ledger(settings)
        self._keys = SqlKeys(self._ledger.database) if settings.keys == "required" else None

    def __serve_build_asgi_app__(self) -> Starlette:
        files, ledger, can_draw = files_of(self._settings), self._ledger, self._graph.can_draw
        app = create_app(Parts(self._settings, ledger, files, self._dispatcher, can_draw, self._keys, ledger.history))
        app.router.lifespan_context = self._lifespan
        return app

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        reaper = Reaper(self._ledger, self._settings.lease_s)
        reaping = Housekeeping([reaper.sweep], reaper.period_s)
        loop = asyncio.create_task(reaping.run(), name="reaping")
        yield  # until Serve has drained the replica
        reaping.stop()
        await loop
        await self._ledger.close()


def _check_binding(settings: GatewaySettings) -> None:
    client: Any = _get_global_client()
    check_host(client.http_config.host, settings.keys == "required")
