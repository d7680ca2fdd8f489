"""The deployment that takes requests from the ledger and runs them through the graph, and sends webhooks."""

import asyncio
from collections.abc import Coroutine
from typing import Any
from uuid import uuid4

from deployments.graph import Graph, Stages
from deployments.logs import leave_out_calls_of, log_as_serve_does
from gateway.dispatching import Dispatching
from gateway.files.base import Files
from gateway.housekeeping import Housekeeping
from gateway.keys.sql import SqlKeys
from gateway.ledger.opening import open_ledger
from gateway.ledger.sql import SqlLedger
from gateway.replicas import Replicas
from gateway.retention import Retention
from gateway.settings import GatewaySettings
from gateway.webhooks.ring_file import ring_of
from gateway.webhooks.sending import Sender, SendingLimits
from gateway.work import Runner


class Dispatcher:
    """Runs the dispatching loop, the sender of webhooks and the housekeeping for as long as its replica lives."""

    async def __init__(self, settings: GatewaySettings, stages: Stages, files: Files) -> None:  # type: ignore[misc]
        log_as_serve_does()
        leave_out_calls_of("report")
        ledger = await open_ledger(settings)
        keys = await SqlKeys.open(settings.ledger_address) if settings.keys == "required" else None
        self._start(ledger, keys, files, Graph(stages), settings)

    def _start(
        self, ledger: SqlLedger, keys: SqlKeys | None, files: Files, runner: Runner, settings: GatewaySettings
    ) -> None:
        owner = f"dispatcher-{uuid4().hex}"
        self._stores: tuple[SqlLedger | SqlKeys, ...] = (ledger, keys) if keys else (ledger,)
        self._replicas = Replicas(settings.look_ahead, settings.capacity)
        at_once = keys.at_once if keys else None
        self._dispatching = Dispatching(ledger, runner, settings, owner, self._replicas.capacity, at_once)
        limits = SendingLimits(allow_loopback=settings.allow_loopback_urls)
        self._sender = Sender(ledger.outbox, ring_of(settings), limits, owner)
        retention = Retention(ledger.history, files, settings)
        self._housekeeping = Housekeeping([retention.sweep, files.sweep], settings.sweep_s)
        self._loops = [
            asyncio.create_task(self._dispatching.run(), name="dispatching"),
            asyncio.create_task(self._sender.run(), name="webhooks"),
            asyncio.create_task(self._housekeeping.run(), name="housekeeping"),
        ]

    async def report(self, replica: str, capacity: int, variants: tuple[str, ...]) -> None:
        """A replica that draws lives, can hold `capacity` requests, and has the weights of `variants` at hand."""
        self._replicas.report(replica, capacity, variants)

    def check_health(self) -> None:
        """Raises when a loop has ended, so that Serve replaces this replica."""
        for loop in self._loops:
            if loop.done():
                raise RuntimeError(f"the loop of {loop.get_name()} has ended")

    async def stop(self) -> None:
        """Claim nothing more, finish or put back what is held, and close the ledger."""
        await self._dispatching.stop()
        self._sender.stop()
        self._housekeeping.stop()
        await asyncio.wait(self._loops)
        for store in self._stores:
            await store.close()

    def __del__(self) -> Coroutine[Any, Any, None] | None:
        # Serve calls this when a replica stops, and awaits what it returns; nobody else must get a coroutine.
        loops = getattr(self, "_loops", None)
        return self.stop() if loops is not None and not all(loop.done() for loop in loops) else None
