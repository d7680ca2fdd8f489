"""What came of the requests of a soak, by the service's own history, which keeps each for some minutes only."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

import httpx2

PAGE = 100
SETTLE_S = 120.0
OPEN = "open"


class History:
    """The outcome of every request that the service at `address` was seen to know. every_s: seconds between two looks
    of `follow`, many in the time for which a request is kept."""

    def __init__(self, address: str, every_s: float = 30.0) -> None:
        self._address, self._every_s = address, every_s
        self._outcomes: dict[str, str] = {}

    async def follow(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            with suppress(httpx2.HTTPError):  # the next look, well before anything is over, sees as much
                await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Learn what the service knows now."""
        with httpx2.Client(base_url=self._address, timeout=60, trust_env=False) as client:
            cursor: str | None = ""
            while cursor is not None:
                params: dict[str, str | int] = {"limit": PAGE, **({"cursor": cursor} if cursor else {})}
                page = client.get("/requests", params=params).raise_for_status().json()
                self._outcomes |= {entry["request_id"]: entry["outcome"] or OPEN for entry in page["requests"]}
                cursor = page["cursor"]

    def settle(self) -> Counter[str]:
        """The outcomes by how many, once none is open or patience is over."""
        end = time.monotonic() + SETTLE_S
        while True:
            self.look()
            outcomes = Counter(self._outcomes.values())
            if not outcomes[OPEN] or time.monotonic() > end:
                return outcomes
            time.sleep(1.0)

    def missing(self, accepted: Iterable[str]) -> list[str]:
        """Those of the accepted requests that have no outcome."""
        return [name for name in accepted if self._outcomes.get(name, OPEN) == OPEN]
