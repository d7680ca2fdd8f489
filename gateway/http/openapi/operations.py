"""The operations of an endpoint: run, stream, submit, and following what was submitted (fal-protocol 3, 4)."""

from collections.abc import Mapping
from typing import Any

from gateway.endpoints import Endpoint
from gateway.http.openapi.wording import (
    DRAWN,
    REQUEST_ID_HEADER,
    answer,
    json_of,
    lifecycle_parameters,
    operation_id,
    parameter,
    ref,
    refusals,
    request_named,
)
from gateway.http.submission import MAX_NAME
from gateway.images.ssrf import MAX_LENGTH
from gateway.policy import OF_OUTPUTS

ACCEPTING = ("400", "401", "403", "413", "422", "429", "500")
FOLLOWING = ("400", "401", "403", "404", "500")
EVENT: Mapping[str, Any] = {
    "description": "One server-sent event; its data is JSON.",
    "type": "object",
    "required": ["data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}
NO_LINKS: Mapping[str, str] = {}
INACTIVE: Mapping[str, Any] = {
    "x-fooocus-inactive": {
        "description": "Fields of the input that were accepted and do not act.",
        "schema": {"type": "string"},
    }
}


def run(endpoint: Endpoint, given: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """given: the request body. result: the schema of the output."""
    return {
        "operationId": operation_id("run", endpoint.id),
        "summary": _summary(endpoint),
        "parameters": [_start_timeout(), *_kept()],
        "requestBody": dict(given),
        "responses": {
            "200": answer("The output.", result, INACTIVE),
            **refusals(*ACCEPTING, *DRAWN),
        },
    }


def stream(endpoint: Endpoint, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "operationId": operation_id("stream", endpoint.id),
        "summary": f"{_summary(endpoint)} Tells of the progress; the last event is the output.",
        "parameters": [_start_timeout(), *_kept()],
        "requestBody": dict(given),
        "responses": {"200": _events("Outputs in the making."), **refusals(*ACCEPTING, *DRAWN)},
    }


def submit(endpoint: Endpoint, given: Mapping[str, Any], links: Mapping[str, str] = NO_LINKS) -> dict[str, Any]:
    """links: names -> ids of operations that take the request's id, besides those of the queue."""
    to = {"parameters": {"request_id": "$response.body#/request_id"}}
    return {
        "operationId": operation_id("submit", endpoint.id),
        "summary": f"{_summary(endpoint)} Answers at once with the addresses to follow.",
        "parameters": _terms(),
        "requestBody": dict(given),
        "responses": {
            "200": {
                **answer("Accepted.", ref("Accepted"), INACTIVE),
                "links": {
                    name: {"operationId": operation, **to}
                    for name, operation in {
                        **{verb: operation_id(verb, endpoint.app) for verb in ("status", "result", "cancel")},
                        **links,
                    }.items()
                },
            },
            **refusals(*ACCEPTING),
        },
    }


def following(path: str, app: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """The paths under `path`, which stands for an app or an endpoint of it. result: the schema of the output."""
    one = f"{path}/requests/{{request_id}}"
    named = request_named()
    logs = parameter(
        "logs", "query", {"enum": ["1", "0", "true", "false"], "type": "string"}, "Whether the log lines are wanted."
    )
    ended = answer("The output.", result)
    return {
        f"{one}/status": {
            "get": {
                "operationId": operation_id("status", app),
                "summary": "Where a request is.",
                "parameters": [named, logs],
                "responses": {
                    "202": answer("It waits or runs.", ref("QueueStatus")),
                    "200": answer("It has ended, well or not.", ref("QueueStatus")),
                    **refusals(*FOLLOWING),
                },
            }
        },
        f"{one}/status/stream": {
            "get": {
                "operationId": operation_id("status_stream", app),
                "summary": "Each change of a request, until it has ended.",
                "parameters": [named, logs],
                "responses": {"200": _events("QueueStatus objects, each with new log lines."), **refusals(*FOLLOWING)},
            }
        },
        one: {
            "get": {
                "operationId": operation_id("result", app),
                "summary": "The output or the failure of a request that has ended; 400 before.",
                "parameters": [named],
                "responses": {"200": ended, **refusals(*FOLLOWING, "422", *(set(DRAWN) - {*FOLLOWING}))},
            }
        },
        f"{one}/cancel": {
            "put": {
                "operationId": operation_id("cancel", app),
                "summary": "Cancel a request.",
                "parameters": [named],
                "responses": {
                    "202": answer("Removed from the queue, or told to stop.", ref("CancelAnswer")),
                    **refusals("401", "403", "500"),
                    "400": _no_cancel("It has ended, or a header makes no sense."),
                    "404": _no_cancel("There is no such request, or it is another key's."),
                },
            }
        },
    }


def _no_cancel(description: str) -> dict[str, Any]:
    return answer(description, {"anyOf": [ref("CancelRefusal"), ref("PlatformError")]})


def taken(name: str, required: bool) -> dict[str, Any]:
    """A request body. required: False where an empty one stands for `{}`."""
    return {"required": required, "content": json_of(ref(name))}


def _terms() -> list[dict[str, Any]]:
    return [
        parameter(
            "fal_webhook",
            "query",
            {"type": "string", "format": "uri", "maxLength": MAX_LENGTH},
            "Where the result is sent when it is there, signed (keys: /.well-known/jwks.json).",
        ),
        parameter(
            "fal_max_queue_length",
            "query",
            {"type": "integer", "minimum": 0, "maximum": 999_999_999},
            "Refuse with 429 where more requests than that already wait.",
        ),
        _start_timeout(),
        parameter(
            "X-Fal-Queue-Priority",
            "header",
            {"type": "string", "enum": ["normal", "low"], "default": "normal"},
            "A low one runs when no normal one waits.",
        ),
        parameter(
            "X-Fal-No-Retry",
            "header",
            {"type": "string", "enum": ["0", "1", "true", "yes"]},
            "Whether a lost run fails instead of being run again.",
        ),
        parameter(
            "Idempotency-Key",
            "header",
            {"type": "string", "pattern": "^[A-Za-z0-9._:-]+$", "minLength": 1, "maxLength": MAX_NAME},
            "The same key and input again are the same request. An addition of this service.",
        ),
        *_kept(),
    ]


def _kept() -> list[dict[str, Any]]:
    return [
        parameter(
            "X-Fal-Store-IO",
            "header",
            {"type": "string", "enum": ["0", "1", "false", "true", "no", "yes"], "default": "1"},
            "Whether the history may show input and output.",
        ),
        *lifecycle_parameters(OF_OUTPUTS, "How long the output's files are kept, and who may read them."),
    ]


def _start_timeout() -> dict[str, Any]:
    return parameter(
        "X-Fal-Request-Timeout",
        "header",
        {"type": "number", "exclusiveMinimum": 0.1},
        "Seconds within which it must begin; otherwise it ends with 504.",
    )


def _events(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": dict(REQUEST_ID_HEADER),
        "content": {"text/event-stream": {"schema": dict(EVENT)}},
    }


def _summary(endpoint: Endpoint) -> str:
    return (endpoint.input.__doc__ or "").strip().partition("\n")[0]
