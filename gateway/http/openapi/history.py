"""The operations on the history: listing, showing and deleting requests."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.http.history import MOST, USUAL
from gateway.http.openapi.wording import answer, object_of, parameter, ref, refusals, request_named
from gateway.ledger.models import Outcome, Priority

HISTORY_LINKS: Mapping[str, str] = {"show": "show_request", "delete": "delete_request"}  # from a submit
_TEXT: Mapping[str, Any] = {"type": "string"}
_TEXT_OR_NULL: Mapping[str, Any] = {"type": ["string", "null"]}
_INSTANT: Mapping[str, Any] = {"type": "string", "format": "date-time"}
_INSTANT_OR_NULL: Mapping[str, Any] = {"type": ["string", "null"], "format": "date-time"}
_OBJECT_OR_NULL: Mapping[str, Any] = {"type": ["object", "null"]}


def history_paths(endpoint_ids: Sequence[str]) -> dict[str, Any]:
    """Without the second form of each, `/queue/requests`."""
    return {
        "/requests": {"get": _list(endpoint_ids)},
        "/requests/{request_id}": {"get": _show(), "delete": _delete()},
    }


def history_shapes() -> dict[str, Any]:
    """Schemas by name."""
    return {
        "HistoryEntry": object_of(_entry()),
        "HistoryPage": object_of(
            {
                "requests": {"type": "array", "maxItems": MOST, "items": ref("HistoryEntry")},
                "cursor": {**_TEXT_OR_NULL, "description": "For the page after; null after the last one."},
            }
        ),
        "HistoryRecord": object_of(
            {
                **_entry(),
                "stored": {"type": "boolean", "description": "Whether input and output may be shown."},
                "inactive": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "Fields that were sent and do not act.",
                },
                "input": {**_OBJECT_OR_NULL, "description": "As it was sent, without the pictures inside it."},
                "output": {**_OBJECT_OR_NULL, "description": "The answer, or the body of the failure."},
                "status_code": {"type": ["integer", "null"], "description": "Of the result; null before its end."},
                "logs": {"type": "array", "items": ref("LogEntry")},
            }
        ),
        "Deletion": object_of(
            {"request_id": _TEXT, "files": {"type": "integer", "minimum": 0, "description": "That went with it."}}
        ),
    }


def _list(endpoint_ids: Sequence[str]) -> dict[str, Any]:
    return {
        "operationId": "list_requests",
        "summary": "The requests that were made, newest first.",
        "parameters": [
            parameter("endpoint_id", "query", {**_TEXT, "examples": [*endpoint_ids]}, "Only those of one endpoint."),
            parameter("key", "query", _TEXT, "The id of a key, or `all`. Another than one's own takes an admin."),
            parameter("cursor", "query", {**_TEXT, "pattern": "^[0-9]{1,18}$"}, "From the page before."),
            parameter(
                "limit", "query", {"type": "integer", "minimum": 1, "maximum": MOST, "default": USUAL}, "Of a page."
            ),
        ],
        "responses": {"200": answer("A page of them.", ref("HistoryPage")), **refusals("400", "401", "403", "500")},
    }


def _show() -> dict[str, Any]:
    return {
        "operationId": HISTORY_LINKS["show"],
        "summary": "One request with its input, output and log.",
        "parameters": [request_named()],
        "responses": {
            "200": answer("The request.", ref("HistoryRecord")),
            **refusals("400", "401", "403", "404", "500"),
        },
    }


def _delete() -> dict[str, Any]:
    return {
        "operationId": HISTORY_LINKS["delete"],
        "summary": "Delete a request that has ended, with its files; 400 before.",
        "parameters": [request_named()],
        "responses": {"200": answer("It is gone.", ref("Deletion")), **refusals("400", "401", "403", "404", "500")},
    }


def _entry() -> dict[str, Any]:
    return {
        "request_id": _TEXT,
        "endpoint_id": _TEXT,
        "key": {**_TEXT_OR_NULL, "description": "The id of the key that sent it."},
        "status": {"type": "string", "enum": ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]},
        "outcome": {"type": ["string", "null"], "enum": [*map(str, Outcome), None]},
        "error": _TEXT_OR_NULL,
        "error_type": _TEXT_OR_NULL,
        "priority": {"type": "string", "enum": [each.name.lower() for each in Priority]},
        "attempts": {"type": "integer", "minimum": 0},
        "created_at": _INSTANT,
        "started_at": _INSTANT_OR_NULL,
        "finished_at": _INSTANT_OR_NULL,
    }
