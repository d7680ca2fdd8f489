"""Server-sent events as fal's clients read them (fal-protocol 0.10, 3, 4.4)."""

import json
from typing import Any

KEEP_ALIVE_S = 15.0
KEEP_ALIVE = ": keep-alive\n\n"
LINGER_S = 0.06  # an old client drops events that it has not read when the stream closes


def event_text(data: Any, name: str | None = None) -> str:
    """One event with `data` as JSON. ASCII only: a client decodes each network chunk on its own."""
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {json.dumps(data)}\n\n"


def event_stream_headers() -> dict[str, str]:
    """That nobody on the way keeps events back."""
    return {"cache-control": "no-store", "x-accel-buffering": "no"}
