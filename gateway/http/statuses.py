"""The status object of a request, and the stream of its changes (fal-protocol 4.3, 4.4)."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import UTC
from typing import Any

from gateway.ledger.base import Ledger, LogEntry, State, Status

POLL_S = 0.25
KEEP_ALIVE_S = 15.0
LINGER_S = 0.06  # an old client drops events that it has not read when the stream closes (fal-protocol 0.10)

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
    common = {"request_id": status.request_id, **links(root, status.app, status.request_id)}
    written = None if logs is None else [_log_object(entry) for entry in logs]
    match status.state:
        case State.QUEUED | State.CLAIMED:
            return {"status": "IN_QUEUE", **common, "queue_position": status.position or 0}
        case State.RUNNING:
            return {"status": "IN_PROGRESS", **common, "logs": written}
        case State.DONE:
            found = {
                "status": "COMPLETED",
                **common,
                "logs": written,
                "metrics": {"inference_time": status.inference_seconds},
            }
            if status.error is not None:
                found |= {"error": status.error, "error_type": status.error_type}
            return found


async def status_events(status: Status, ledger: Ledger, root: str, with_logs: bool) -> AsyncIterator[str]:
    """Server-sent events from `status` on: one at every change, each with the log lines that are new in it.

    Ends after COMPLETED and never before, for clients fetch the result when the stream ends.
    """
    clock = asyncio.get_running_loop().time
    told: tuple[State, int | None] | None = None
    last_line = 0
    last_sent = clock()
    while True:
        logs = None
        try:
            if with_logs and status.state in (State.RUNNING, State.DONE):
                logs = await ledger.logs(status.request_id, last_line)
            state = State.QUEUED if status.state is State.CLAIMED else status.state
            if logs or told != (state, status.position):
                told, last_sent = (state, status.position), clock()
                last_line = logs[-1].number if logs else last_line
                # ASCII only: a client decodes each network chunk on its own (fal-protocol 3)
                yield f"data: {json.dumps(status_object(status, logs, root))}\n\n"
            if status.state is State.DONE:
                break
            status = await ledger.status(status.request_id, status.app) or status
        except Exception:
            logger.exception("the status of request %s could not be read; the stream goes on", status.request_id)
        if clock() - last_sent >= KEEP_ALIVE_S:
            last_sent = clock()
            yield ": keep-alive\n\n"
        await asyncio.sleep(POLL_S)
    await asyncio.sleep(LINGER_S)


def _log_object(entry: LogEntry) -> dict[str, Any]:
    at = entry.at if entry.at.tzinfo else entry.at.replace(tzinfo=UTC)
    return {"message": entry.message, "timestamp": at.isoformat(), "level": entry.level, "source": "USER"}
