"""The gateway's side of sync runs: follows them at the dispatcher, and says to the ledger that it still listens."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from gateway.broadcasting import DispatcherLink
from gateway.latest import LatestEvents, Stopping
from gateway.ledger.base import Ledger
from gateway.rate_limited_log import RateLimitedLog

FOLLOW_S = 1.0  # for how long a run waits for the dispatcher to take notice of it
PAUSE_S = 0.5  # before a dispatcher that did not answer is asked again

logger = logging.getLogger("fooocus.gateway")


class Follower:
    """The runs whose clients wait at this process: one poll of the dispatcher and one lease for all of them.

    name: what the ledger and the dispatcher know this process by. Belongs to one event loop.
    """

    def __init__(self, link: DispatcherLink, ledger: Ledger, lease_s: float) -> None:
        self.name = f"gateway-{uuid4().hex}"
        self.lease_s = lease_s
        self._link, self._ledger = link, ledger
        self._log = RateLimitedLog(logger)
        self._events: dict[str, LatestEvents] = {}
        self._previews: dict[str, bool] = {}
        self._loops: dict[str, asyncio.Task[None]] = {}

    @contextmanager
    def follow(self, request_id: str, previews: bool) -> Iterator[LatestEvents]:
        """The events of a request while a client waits for it; none of them come while the dispatcher is away."""
        self._events[request_id], self._previews[request_id] = LatestEvents(), previews
        for name, loop in (("poll", self._poll), ("listen", self._listen)):
            if name not in self._loops or self._loops[name].done():
                self._loops[name] = asyncio.create_task(loop(), name=f"following-{name}")
        try:
            yield self._events[request_id]
        finally:
            del self._events[request_id], self._previews[request_id]

    async def announce(self, request_id: str) -> None:
        """Tell the dispatcher of a run that is about to be submitted, so that none of its events is missed."""
        with suppress(Exception):
            async with asyncio.timeout(FOLLOW_S):
                await self._link.follow(self.name, request_id, self._previews[request_id])

    async def wake(self) -> None:
        """Let the dispatcher look for what waits. Where it does not hear it looks by itself, a little later."""
        with suppress(Exception):
            async with asyncio.timeout(FOLLOW_S):
                await self._link.wake()

    async def hear(self) -> None:
        """Let the dispatcher look for what was cancelled. Where it does not hear it looks by itself, a little later."""
        with suppress(Exception):
            async with asyncio.timeout(FOLLOW_S):
                await self._link.hear()

    async def _poll(self) -> None:
        while self._events:
            try:
                news = await self._link.poll(self.name, dict(self._previews))
            except Exception as error:
                logger.info("the dispatcher does not answer: %s", type(error).__name__)
                await asyncio.sleep(PAUSE_S)
                continue
            for request_id, event in news:
                if (events := self._events.get(request_id)) is not None:
                    events.put(event)
            if any(isinstance(event, Stopping) for _, event in news):
                await asyncio.sleep(PAUSE_S)  # it says so at every poll, until the runs are told

    async def _listen(self) -> None:
        while self._events:
            await asyncio.sleep(self.lease_s / 3)
            try:
                if self._events:
                    await self._ledger.listen(self.name, self.lease_s, [*self._events])
            except Exception as error:
                self._log.warning("the ledger does not hear that this gateway listens: %s", error)
