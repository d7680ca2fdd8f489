"""Calls under way in a replica: fewer than Serve lets it have, so that health is told whatever the others do."""

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import PlatformError
from gateway.http.answers import error_response

RESERVED = 50  # of a replica's max_ongoing_requests: for health, and for refusals
LEAST_ONGOING = 2 * RESERVED  # max_ongoing_requests that leave enough to work with
RETRY_AFTER_S = 1


def ordinary_calls(max_ongoing_requests: int) -> int:
    """How many calls a replica may have under way. Raises ValueError below `LEAST_ONGOING`."""
    if max_ongoing_requests < LEAST_ONGOING:
        raise ValueError(f"max_ongoing_requests of the gateway is {max_ongoing_requests}; {LEAST_ONGOING} is the least")
    return max_ongoing_requests - RESERVED


class BoundedCalls:
    """Refuses a call at once (503) while too many are under way. `/health` always passes.

    Serve queues what comes above a replica's max_ongoing_requests, health with it. So calls that last (streams, runs,
    bodies) must never take all of these places. `/ready` waits for the ledger and the runner, which may hang: it has a
    half of the reserve.
    """

    def __init__(self, app: ASGIApp, max_ongoing_requests: int) -> None:
        self._app, self._under_way = app, 0
        self._most = ordinary_calls(max_ongoing_requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/health":
            return await self._app(scope, receive, send)
        most = self._most + (RESERVED // 2 if scope["path"] == "/ready" else 0)
        if self._under_way >= most:
            full = PlatformError("runner_scheduling_failure", "Too many calls are under way here; try again.")
            return await error_response(full, {"retry-after": str(RETRY_AFTER_S)})(scope, receive, send)
        self._under_way += 1
        try:
            return await self._app(scope, receive, send)
        finally:
            self._under_way -= 1
