"""What runs here and how it goes, for whoever operates it: a route of our own."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from time import monotonic
from typing import Literal, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.http import bodies
from gateway.http.bodies import MOST_ERRORS
from gateway.http.parts import Parts
from gateway.http.routes import Route
from gateway.keys.base import Scope
from gateway.ledger.figures import Failed, Going, Now, SqlFigures
from gateway.ledger.models import Priority, State
from gateway.ledger.store import utc_now
from gateway.monitoring.trace import begin_apart
from gateway.rate_limited_log import RateLimitedLog
from gateway.version import own_version
from gateway.work import FamilyState
from gateway.worker.overview import Drawer, Overview

FRESH_S = 1.0  # for which an answer is given to whoever asks
SHARE = 0.05  # of the time that may go into making answers, however long the queue is
PATIENCE_S = 3.0  # with each of those who are asked
LONGEST_MESSAGE = 500  # characters

Asked = Literal["dispatcher", "ledger"]
Found = TypeVar("Found")

logger = logging.getLogger("fooocus.gateway")


def overview_routes(parts: Parts) -> list[Route]:
    """Programs get JSON at the address of the page."""
    told = _Told(parts)

    async def status(request: Request) -> Response:
        return JSONResponse(await told.now(), headers={"cache-control": "no-store", "vary": "accept"})

    return [Route("/status", status, methods=["GET"], needs=Scope.ADMIN)]


class _Told:
    """The answer, made once for all who ask within a moment: by one call of the dispatcher and three statements.

    Belongs to one event loop.
    """

    def __init__(self, parts: Parts, clock: Callable[[], float] = monotonic) -> None:
        self._parts, self._clock = parts, clock
        self._versions: bodies.Versions = {"service": own_version(), "family": _family(parts.family)}
        self._making: asyncio.Task[bodies.ServiceStatus] | None = None
        self._fresh_until, self._reading_s = float("-inf"), 0.0
        self._reading: asyncio.Task[Now] | None = None
        self._log = RateLimitedLog(logger)

    async def now(self) -> bodies.ServiceStatus:
        if self._making is None or (self._making.done() and self._clock() >= self._fresh_until):
            self._making = begin_apart(self._make())
        # shared: who stops waiting does not take the answer from the others
        return await asyncio.shield(self._making)

    async def _make(self) -> bodies.ServiceStatus:
        overview, (stores, ledger) = await asyncio.gather(
            self._asked("dispatcher", self._parts.dispatcher.overview()), self._look()
        )
        self._fresh_until = self._clock() + max(FRESH_S, self._reading_s / SHARE)
        return {
            "at": utc_now().isoformat(),
            "unknown": [*_missing("dispatcher", overview), *_missing("ledger", ledger)],
            "versions": self._versions,
            "stores": stores,
            "leader": _leader(overview) if overview else None,
            "replicas": [_replica(one) for one in overview.drawers] if overview else None,
            "starting": overview.starting if overview else None,
            "metrics": [*overview.metrics] if overview else None,
            "queue": _queue(ledger) if ledger else None,
            "webhooks": _webhooks(ledger) if ledger else None,
            "errors": [_error(one) for one in ledger.failed] if ledger else None,
        }

    async def _look(self) -> tuple[dict[str, bool | None], Now | None]:
        """Whether the stores are there, and what the ledger has where that is."""
        watches, figures = self._parts.watches, self._parts.figures
        well = await asyncio.gather(*(self._asked(watch.store, watch.well()) for watch in watches))
        stores = {watch.store: up for watch, up in zip(watches, well, strict=True)}
        if figures is None or not stores.get("ledger", True):
            return stores, None
        began = self._clock()
        ledger = await self._asked("ledger", self._read(figures))
        self._reading_s = self._clock() - began
        return stores, ledger

    async def _read(self, figures: SqlFigures) -> Now:
        """One read at a time: one that nobody waits for any more holds a thread until it ends."""
        if self._reading is None:
            self._reading = begin_apart(self._reading_alone(figures))
        return await asyncio.shield(self._reading)

    async def _reading_alone(self, figures: SqlFigures) -> Now:
        try:
            return await figures.now(utc_now(), MOST_ERRORS)
        finally:
            self._reading = None

    async def _asked(self, whom: str, answer: Awaitable[Found]) -> Found | None:
        """What it answers; None where it does not in time."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await answer
        except Exception as fault:  # whatever it is, the others are told all the same
            self._log.warning("the %s does not tell how it goes: %r", whom, fault.__cause__ or fault)
            return None


def _family(family: FamilyState | None) -> str | None:
    return None if family is None else f"{family.name} {family.version}".strip()


def _missing(whom: Asked, found: Overview | Now | None) -> list[Asked]:
    return [] if found else [whom]


def _leader(overview: Overview) -> bodies.LeadingDispatcher:
    return {"name": overview.leader, "leads_for": round(overview.leads_for_s, 1)}


def _replica(one: Drawer) -> bodies.DrawingReplica:
    lately = one.lately
    return {
        "name": one.name,
        "state": one.state,
        "rows": one.rows,
        "rows_taken": one.taken,
        "requests": one.requests,
        "bases": [*one.bases],
        "lora_sets": one.lora_sets,
        "rows_a_step": round(lately.rows / lately.calls, 2) if lately.calls else None,
        "busy": round(lately.busy, 3),
        "base_hits": lately.bases_found,
        "base_misses": lately.bases_built,
        "lora_hits": lately.adapters_found,
        "lora_misses": lately.adapters_built,
    }


def _queue(ledger: Now) -> list[bodies.QueueLine]:
    lines: dict[tuple[str, Priority], dict[State, Going]] = {}
    for one in ledger.going:
        lines.setdefault((one.endpoint, one.priority), {})[one.state] = one
    return [_line(*named, lines[named], ledger.at) for named in sorted(lines)]


def _line(endpoint: str, priority: Priority, by_state: Mapping[State, Going], at: datetime) -> bodies.QueueLine:
    waiting, claimed, running = (by_state.get(state) for state in (State.QUEUED, State.CLAIMED, State.RUNNING))
    return {
        "endpoint_id": endpoint,
        "priority": priority.name.lower(),
        "waiting": waiting.number if waiting else 0,
        "claimed": claimed.number if claimed else 0,
        "running": running.number if running else 0,
        "oldest_wait": _age(waiting.oldest if waiting else None, at),
    }


def _webhooks(ledger: Now) -> bodies.OwedWebhooks:
    return {"owed": ledger.owed.number, "oldest": _age(ledger.owed.oldest, ledger.at)}


def _error(one: Failed) -> bodies.RecentError:
    is_long = len(one.error) > LONGEST_MESSAGE
    return {
        "request_id": one.request_id,
        "endpoint_id": one.endpoint,
        "key": one.key or None,
        "status_code": one.status,
        "error_type": one.error_type,
        "message": f"{one.error[:LONGEST_MESSAGE]}…" if is_long else one.error,
        "at": one.finished_at.isoformat(),
    }


def _age(since: datetime | None, at: datetime) -> float | None:
    return None if since is None else round(max(0.0, (at - since).total_seconds()), 1)
