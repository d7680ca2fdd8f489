"""What was asked and answered: routes of our own to list, show and delete requests."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TypeVar, get_args

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.errors import PlatformError
from gateway.http import bodies
from gateway.http.auth import caller, owner
from gateway.http.bodies import MOST_LISTED
from gateway.http.parts import Parts
from gateway.http.responses import REQUEST_ID, log_object, status_word
from gateway.http.routes import Route
from gateway.keys.base import Scope
from gateway.ledger.history import Entry, Record, SqlHistory
from gateway.ledger.models import Outcome, Payload, State
from gateway.validation import whole_number
from gateway.worker.reaper import delete_files

USUAL = 50  # requests of a page
STATES: Mapping[str, Sequence[State]] = MappingProxyType(
    {word: tuple(state for state in State if status_word(state) == word) for word in get_args(bodies.StatusWord)}
)
OUTCOMES: Mapping[str, Outcome] = MappingProxyType({outcome.value: outcome for outcome in Outcome})

T = TypeVar("T")


def history_routes(parts: Parts) -> list[Route]:
    """On the queue's host as `/requests`, elsewhere also as `/queue/requests`."""
    if parts.history is None:
        return []
    history = _History(parts, parts.history)
    routes = []
    for root in ("/requests", "/queue/requests"):
        routes += [
            Route(root, history.list, methods=["GET"], needs=Scope.RUN),
            Route(f"{root}/{{request_id}}", history.show, methods=["GET"], needs=Scope.RUN),
            Route(f"{root}/{{request_id}}", history.delete, methods=["DELETE"], needs=Scope.RUN),
        ]
    return routes


class _History:
    def __init__(self, parts: Parts, history: SqlHistory) -> None:
        self._parts, self._history = parts, history

    async def list(self, request: Request) -> Response:
        query = request.query_params
        try:
            found = await self._history.list(
                _listed(request),
                query.get("endpoint_id"),
                query.get("cursor"),
                _limit(request),
                states=_chosen(request, "status", STATES) or (),
                outcome=_chosen(request, "outcome", OUTCOMES),
            )
        except ValueError:
            raise PlatformError("bad_request", "cursor must come from the page before.") from None
        return JSONResponse(
            bodies.HistoryPage(requests=[_entry(entry) for entry in found.entries], cursor=found.cursor)
        )

    async def show(self, request: Request) -> Response:
        record = await self._history.show(request.path_params["request_id"], owner(request))
        if record is None:
            raise _unknown()
        request_id = record.entry.request_id
        # the log tells what was drawn from, which is the input
        shown = record.payload is Payload.KEPT
        logs = [log_object(entry) for entry in await self._parts.ledger.logs(request_id)] if shown else []
        return JSONResponse(_record(record, logs), headers={REQUEST_ID: request_id})

    async def delete(self, request: Request) -> Response:
        request_id = request.path_params["request_id"]
        media = await self._history.delete(request_id, owner(request))
        if media is None:
            raise _unknown()
        await delete_files(media, self._parts.files)
        return JSONResponse(bodies.Deletion(request_id=request_id, files=len(media)), headers={REQUEST_ID: request_id})


def _listed(request: Request) -> str | None:
    """Whose requests are listed: the caller's own, all of an open service, or with an admin's key whose it asks for."""
    who, asked = caller(request), request.query_params.get("key")
    if asked is None or asked == who.key:
        return who.key or None
    if not who.may(Scope.ADMIN):
        raise PlatformError("forbidden", f"Requests of other keys take the scope '{Scope.ADMIN}'.", status=403)
    return None if asked == "all" else asked


def _chosen(request: Request, name: str, among: Mapping[str, T]) -> T | None:
    given = request.query_params.get(name)
    if given is None:
        return None
    if given not in among:
        raise PlatformError("bad_request", f"{name} must be one of {', '.join(among)}.")
    return among[given]


def _limit(request: Request) -> int:
    limit = whole_number(request.query_params.get("limit", str(USUAL)), 1, MOST_LISTED)
    if limit is None:
        raise PlatformError("bad_request", f"limit must be from 1 to {MOST_LISTED}.")
    return limit


def _entry(entry: Entry) -> bodies.HistoryEntry:
    return {
        "request_id": entry.request_id,
        "endpoint_id": entry.endpoint,
        "key": entry.key or None,
        "status": status_word(entry.state),
        "outcome": entry.outcome,
        "error": entry.error,
        "error_type": entry.error_type,
        "priority": entry.priority.name.lower(),
        "attempts": entry.attempts,
        "created_at": entry.created_at.isoformat(),
        "started_at": _instant(entry.started_at),
        "finished_at": _instant(entry.finished_at),
    }


def _record(record: Record, logs: list[bodies.LogEntry]) -> bodies.HistoryRecord:
    shown = record.payload is Payload.KEPT
    answer = record.answer if shown else None
    # with `sync_mode` the pictures themselves are in it, which fal keeps out of the history (fal-protocol 9.1)
    inline = answer is not None and answer.status == 200 and record.work["delivery"].get("inline", False)
    return {
        **_entry(record.entry),
        "stored": shown,
        "input": record.input if shown else None,
        "inactive": record.work.get("inactive", []) if shown else [],
        "seeds": record.work["spec"]["seeds"] if shown else [],
        "output": None if inline or answer is None else answer.body,
        "status_code": None if answer is None else answer.status,
        "logs": logs,
    }


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _unknown() -> PlatformError:
    return PlatformError("bad_request", "Request not found", status=404)
