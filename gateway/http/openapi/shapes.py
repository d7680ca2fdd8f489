"""The bodies that are not an endpoint's own: statuses, logs, fal's two shapes of errors, tokens, key sets."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from gateway.http.openapi.wording import TEMPLATE, object_of, ref
from gateway.keys.tokens import LONGEST_S
from gateway.policy import Lifecycle

_TEXT: Mapping[str, Any] = {"type": "string"}
_URL: Mapping[str, Any] = {"type": "string", "format": "uri"}
_LABELS: Mapping[str, Any] = {
    "level": {"type": "string", "enum": ["STDERR", "STDOUT", "ERROR", "INFO", "WARN", "DEBUG"]},
    "source": {"type": "string", "const": "USER"},
}
_LINKS: Mapping[str, Any] = {"response_url": _URL, "status_url": _URL, "cancel_url": _URL}


def shapes() -> dict[str, Any]:
    """Schemas by name."""
    _, lifecycle = models_json_schema([(Lifecycle, "validation")], ref_template=TEMPLATE)
    return {
        **lifecycle["$defs"],
        "QueueStatus": _queue_status(),
        "Accepted": object_of(
            {
                "status": {"type": "string", "const": "IN_QUEUE"},
                "request_id": _TEXT,
                "gateway_request_id": _TEXT,
                "queue_position": _position(),
                **_LINKS,
            }
        ),
        "LogEntry": object_of(
            {
                "message": _TEXT,
                "timestamp": {"type": "string", "format": "date-time"},
                **_LABELS,
                "labels": object_of(_LABELS),
            }
        ),
        "CancelAnswer": object_of({"status": {"type": "string", "enum": ["OK", "CANCELLATION_REQUESTED"]}}),
        "CancelRefusal": object_of(
            {
                "status": {"type": "string", "enum": ["ALREADY_COMPLETED", "NOT_FOUND"]},
                "detail": _TEXT,
                "message": _TEXT,
            }
        ),
        "ValidationError": _validation_error(),
        "HTTPValidationError": object_of(
            {"detail": {"type": "array", "minItems": 1, "items": ref("ValidationError")}, "message": _TEXT},
            description="Faults of the input, or of the model with it.",
        ),
        "PlatformError": object_of(
            {"detail": _TEXT, "error_type": _TEXT, "message": _TEXT}, description="A fault that is not the model's."
        ),
        "Fault": {"anyOf": [ref("HTTPValidationError"), ref("PlatformError")]},
    }


def own_shapes(endpoint_ids: Sequence[str]) -> dict[str, Any]:
    """Schemas by name of the routes that are not an endpoint's."""
    apps = sorted({endpoint_id.split("/")[1] for endpoint_id in endpoint_ids})
    return {
        "TokenRequest": object_of(
            {
                "allowed_apps": {"type": "array", "minItems": 1, "items": {**_TEXT, "enum": apps}},
                "token_expiration": {
                    "type": "number",
                    "exclusiveMinimum": 0,
                    "maximum": LONGEST_S,
                    "default": 120,
                    "description": "Seconds.",
                },
            },
            optional=("token_expiration",),
        ),
        "KeySet": object_of({"keys": {"type": "array", "items": object_of(dict.fromkeys(("kty", "crv", "x"), _TEXT))}}),
        "Health": object_of({"status": {"type": "string", "const": "ok"}}),
        "Readiness": object_of(
            {
                "status": {"type": "string", "const": "ready"},
                "waiting": {"type": "integer", "minimum": 0},
                "family": _family(),
            },
            optional=("family",),
        ),
    }


def _family() -> dict[str, Any]:
    return object_of(
        {
            "name": _TEXT,
            "checks_pictures": {"type": "boolean", "description": "Whether there is a safety checker."},
            "has": {"type": "array", "items": _TEXT},
            "missing": {
                "type": "object",
                "additionalProperties": _TEXT,
                "description": "What it lacks, each with the command that brings it.",
            },
        },
        description="The model family that draws, and what it has beside its checkpoint.",
    )


def _queue_status() -> dict[str, Any]:
    logs = {"type": ["array", "null"], "items": ref("LogEntry"), "description": "null where nobody asked for them."}
    found = object_of(
        {
            "status": {"type": "string", "enum": ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]},
            "request_id": _TEXT,
            **_LINKS,
            "queue_position": _position(),
            "logs": logs,
            "metrics": object_of({"inference_time": {"type": ["number", "null"], "description": "Seconds."}}),
            "error": {"type": "string", "description": "Of a request that ended badly."},
            "error_type": {"type": ["string", "null"]},
        },
        optional=("queue_position", "logs", "metrics", "error", "error_type"),
    )
    needs = {"IN_QUEUE": ["queue_position"], "IN_PROGRESS": ["logs"], "COMPLETED": ["logs", "metrics"]}
    return found | {
        "oneOf": [{"properties": {"status": {"const": state}}, "required": keys} for state, keys in needs.items()]
    }


def _validation_error() -> dict[str, Any]:
    return object_of(
        {
            "loc": {"type": "array", "items": {"type": ["string", "integer"]}, "description": "Way to the field."},
            "msg": _TEXT,
            "type": {"type": "string", "description": "Stable, for programs."},
            "url": _URL,
            "ctx": {"type": "object", "description": "By type: a limit, the values that are expected."},
            "input": {"description": "The offending value, where it is short."},
        },
        optional=("ctx", "input"),
    )


def _position() -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "description": "Requests that come before it."}
