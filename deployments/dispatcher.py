"""The deployment that takes requests from the ledger and runs them through the graph."""

import asyncio
from collections.abc import Coroutine
from typing import Any
from uuid import uuid4

from deployments.graph import Graph, Stages
from gateway.dispatching import Dispatching
from gateway.ledger.base import Ledger
from gateway.ledger.sql import SqlLedger
from gateway.settings import GatewaySettings
from gateway.work import Runner


class Dispatcher:
    """Runs the dispatching loop for as long as its replica lives."""

    async def __init__(self, settings: GatewaySettings, stages: Stages) -> None:  # type: ignore[misc]
        self._start(await SqlLedger.open(settings.ledger_address), Graph(stages), settings)

    def _start(self, ledger: Ledger, runner: Runner, settings: GatewaySettings) -> None:
        self._ledger = ledger
        self._dispatching = Dispatching(ledger, runner, settings, owner=f"dispatcher-{uuid4().hex}")
        self._loop = asyncio.create_task(self._dispatching.run(), name="dispatching")

    def check_health(self) -> None:
        """Raises when the loop has ended, so that Serve replaces this replica."""
        if self._loop.done():
            raise RuntimeError("the dispatching loop has ended")

    async def stop(self) -> None:
        """Claim nothing more, finish or put back what is held, and close the ledger."""
        await self._dispatching.stop()
        await asyncio.wait({self._loop})
        await self._ledger.close()

    def __del__(self) -> Coroutine[Any, Any, None] | None:
        # Serve calls this when a replica stops, and awaits what it returns; nobody else must get a coroutine.
        loop = getattr(self, "_loop", None)
        return self.stop() if loop is not None and not loop.done() else None
