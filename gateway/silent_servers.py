"""Which servers did not answer a short time ago, so that not every request waits for them anew."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FORGET_S = 20.0  # after which a server that did not answer is asked again
MOST = 1000  # servers that are remembered


@dataclass(slots=True)
class _Server:
    answered_at: float = float("-inf")
    silent_at: float | None = None  # None from its next answer on


class SilentServers:
    """Remembers of the `most` servers that were asked last when they answered, or did not.

    Servers are named by origin: scheme, host and port. clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = MOST) -> None:
        self._clock, self._most = clock, most
        self._servers: OrderedDict[str, _Server] = OrderedDict()

    def now(self) -> float:
        return self._clock()

    def is_silent(self, origin: str) -> bool:
        """Whether the server did not answer within the last `FORGET_S`, nor since."""
        server = self._servers.get(origin)
        return server is not None and server.silent_at is not None and self._clock() - server.silent_at < FORGET_S

    def answered(self, origin: str) -> None:
        """It did, whatever it said."""
        server = self._known(origin)
        server.answered_at, server.silent_at = self._clock(), None

    def unanswered(self, origin: str, asked_at: float) -> None:
        """What was asked at `asked_at` was given up. A server that answered another call since is not silent."""
        server = self._known(origin)
        if server.answered_at < asked_at:
            server.silent_at = self._clock()

    def _known(self, origin: str) -> _Server:
        server = self._servers.setdefault(origin, _Server())
        self._servers.move_to_end(origin)
        if len(self._servers) > self._most:
            self._servers.popitem(last=False)
        return server
