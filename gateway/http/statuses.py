"""The status object of a request, and the stream of its changes (fal-protocol 4.3, 4.4)."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC
from types import MappingProxyType
from typing import Any

from gateway.http.sse import KEEP_ALIVE, KEEP_ALIVE_S, LINGER_S, event_text
from gateway.ledger.base import Ledger, LogEntry, State, Status
from gateway.watching import PERIOD_S, Watching

_LEVELS: Mapping[str, str] = MappingProxyType({"WARNING": "WARN"})  # as fal calls them

logger = logging.getLogger("fooocus.gateway")


def links(root: str, app: str, request_id: str) -> dict[str, str]:
    """The addresses of a request, absolute (fal-protocol 0.2). root: where the queue's routes stand."""
    address = f"{root}/{app}/requests/{request_id}"
    return {
        "response_url": address,
        "status_url": f"{address}/status",
        "cancel_url": f"{address}/cancel",
    }


def status_object(status: Status, logs: Sequence[LogEntry] | None, root: str) -> dict[str, Any]:
    """logs: None where nobody asked for them; the key is there all the same (fal-protocol 0.1)."""
    common = {
        "status": status_word(status.state),
        "request_id": status.request_id,
        **links(root, status.app, status.request_id),
    }
    written = None if logs is None else [log_object(entry) for entry in logs]
    match status.state:
        case State.QUEUED | State.CLAIMED:
            return {**common, "queue_position": status.position or 0}
        case State.RUNNING:
            return {**common, "logs": written}
        case State.DONE:
            found = {
                **common,
                "logs": written,
                "metrics": {"inference_time": status.inference_seconds},
            }
            if status.error is not None:
                found |= {"error": status.error, "error_type": status.error_type}
            return found


async def status_events(
    status: Status, ledger: Ledger, watching: Watching, root: str, with_logs: bool
) -> AsyncGenerator[str]:
    """Server-sent events from `status` on: one at every change, each with the log lines that are new in it.

    Ends after COMPLETED and never before, for clients fetch the result when the stream ends; or when the request was
    deleted.
    """
    told: tuple[State, int | None] | None = None
    last_line = 0
    with watching.watch(status) as watch:
        while True:
            try:
                logs = None
                if with_logs and status.lines > last_line and status.state in (State.RUNNING, State.DONE):
                    logs = await ledger.logs(status.request_id, last_line)
                    last_line = logs[-1].number if logs else last_line
            except Exception:
                logger.exception("the log of request %s could not be read; the stream goes on", status.request_id)
                await asyncio.sleep(PERIOD_S)
                continue
            state = State.QUEUED if status.state is State.CLAIMED else status.state
            if logs or told != (state, status.position):
                told = (state, status.position)
                yield event_text(status_object(status, logs, root))
            if status.state is State.DONE:
                break
            while not await watch.changed(KEEP_ALIVE_S):
                yield KEEP_ALIVE
            if watch.status is None:
                break
            status = watch.status
    await asyncio.sleep(LINGER_S)


def status_word(state: State) -> str:
    """What fal calls it."""
    match state:
        case State.QUEUED | State.CLAIMED:
            return "IN_QUEUE"
        case State.RUNNING:
            return "IN_PROGRESS"
        case State.DONE:
            return "COMPLETED"


def log_object(entry: LogEntry) -> dict[str, Any]:
    at = entry.at if entry.at.tzinfo else entry.at.replace(tzinfo=UTC)
    # told twice: fal's Swift and Java clients read the labels without a test, the others what stands beside them
    labels = {"level": _LEVELS.get(entry.level, entry.level), "source": "USER"}
    return {"message": entry.message, "timestamp": at.isoformat(), **labels, "labels": labels}
