"""Whether a store is there: asked of the store itself, seldom, on behalf of all who want to know."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

EVERY_S = 2.0
TIMEOUT_S = 5.0  # a store that takes longer to answer is as good as away

logger = logging.getLogger("fooocus.gateway")


def _to_nobody(store: str, up: bool) -> None:
    pass


class StoreWatch:
    """The state of one store.

    store: its name (`files`, `ledger`). check: raises when the store is away; asked at most every `every_s` seconds,
    and only while somebody wants to know. tell: hears of every answer, for a gauge. clock: seconds.
    """

    def __init__(
        self,
        store: str,
        check: Callable[[], Awaitable[object]],
        tell: Callable[[str, bool], None] = _to_nobody,
        every_s: float = EVERY_S,
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self._check, self._tell = check, tell
        self._every_s, self._timeout_s, self._clock = every_s, timeout_s, clock
        self._asking: asyncio.Task[bool] | None = None
        self._up = True
        self._known_until = float("-inf")

    async def well(self) -> bool:
        """Whether the store is there, as was found out not more than `every_s` ago; takes `timeout_s` at most."""
        if self._asking is None and self._clock() < self._known_until:
            return self._up
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        # shared: who stops waiting does not take the answer from the others
        return await asyncio.shield(self._asking)

    async def run(self, every_s: float) -> None:
        """Ask every `every_s` seconds, so that `tell` hears of a store that nobody asks for. Ends when cancelled."""
        while True:
            await self.well()
            await asyncio.sleep(every_s)

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._check()
            up = True
        except Exception as error:
            up = False
            if self._up:
                logger.warning("the %s store is away: %r", self.store, error.__cause__ or error)
        finally:
            self._asking = None
        if up and not self._up:
            logger.info("the %s store is back", self.store)
        self._up, self._known_until = up, self._clock() + self._every_s
        self._tell(self.store, up)
        return up
