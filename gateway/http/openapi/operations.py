"""The operations of an endpoint: run, stream, submit, and following what was submitted (fal-protocol 3, 4)."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.endpoints import Endpoint
from gateway.errors import PlatformErrorBody
from gateway.http import bodies
from gateway.http.openapi.parts import (
    DRAWN,
    REQUEST_ID_HEADER,
    answer,
    lifecycle_parameters,
    operation,
    operation_id,
    parameter,
    ref,
    request_named,
)
from gateway.http.submission import MAX_IDEMPOTENCY_KEY
from gateway.images.ssrf import MAX_LENGTH
from gateway.policy import OF_OUTPUTS

ACCEPTING = ("422", "429")
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


def run(endpoint: Endpoint) -> dict[str, Any]:
    return operation(
        operation_id("run", endpoint.id),
        _summary(endpoint),
        {"200": answer("The output.", ref(endpoint.output), INACTIVE)},
        parameters=[_start_timeout(), _hint(), *_kept()],
        body=endpoint.input,
        refused=(*ACCEPTING, *DRAWN),
    )


def stream(endpoint: Endpoint) -> dict[str, Any]:
    return operation(
        operation_id("stream", endpoint.id),
        f"{_summary(endpoint)} Tells of the progress; the last event is the output.",
        _events("Outputs in the making."),
        parameters=[_start_timeout(), _hint(), *_kept()],
        body=endpoint.input,
        refused=(*ACCEPTING, *DRAWN),
    )


def submit(endpoint: Endpoint, links: Mapping[str, str] = NO_LINKS) -> dict[str, Any]:
    """links: names -> ids of operations that take the request's id, besides those of the queue."""
    to = {"parameters": {"request_id": "$response.body#/request_id"}}
    followed = {verb: operation_id(verb, endpoint.app) for verb in ("status", "result", "cancel")} | dict(links)
    accepted = {
        **answer("Accepted.", ref(bodies.Accepted), INACTIVE),
        "links": {name: {"operationId": called, **to} for name, called in followed.items()},
    }
    return operation(
        operation_id("submit", endpoint.id),
        f"{_summary(endpoint)} Answers at once with the addresses to follow.",
        {"200": accepted},
        parameters=_terms(),
        body=endpoint.input,
        refused=ACCEPTING,
    )


def following(path: str, app: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """The paths under `path`, which stands for an app or an endpoint of it. result: the schema of the output."""
    one = f"{path}/requests/{{request_id}}"
    wanted: dict[str, Any] = {"enum": ["1", "0", "true", "false"], "type": "string"}
    logs = parameter("logs", "query", wanted, "Whether the log lines are wanted.")

    def followed(verb: str, summary: str, found: Any, *more: Mapping[str, Any], refused: Sequence[str] = ()) -> Any:
        parameters, codes = [request_named(), *more], ("404", *refused)
        return operation(operation_id(verb, app), summary, found, parameters=parameters, refused=codes)

    status = ref(bodies.QueueStatus)
    states = {"202": answer("It waits or runs.", status), "200": answer("It has ended, well or not.", status)}
    changes = _events("QueueStatus objects, each with new log lines.")
    ended = {"200": answer("The output.", result)}
    refusal = {"anyOf": [ref(bodies.CancelRefusal), ref(PlatformErrorBody)]}
    cancelled = {
        "202": answer("Removed from the queue, or told to stop.", ref(bodies.CancelAnswer)),
        "400": answer("It has ended, or a header makes no sense.", refusal),
        "404": answer("There is no such request, or it is another key's.", refusal),
    }
    output = "The output or the failure of a request that has ended; 400 before."
    return {
        f"{one}/status": {"get": followed("status", "Where a request is.", states, logs)},
        f"{one}/status/stream": {
            "get": followed("status_stream", "Each change of a request, until it has ended.", changes, logs)
        },
        one: {"get": followed("result", output, ended, refused=("422", *DRAWN))},
        f"{one}/cancel": {"put": followed("cancel", "Cancel a request.", cancelled)},
    }


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
        _hint(),
        parameter(
            "X-Fal-No-Retry",
            "header",
            {"type": "string", "enum": ["0", "1", "true", "yes"]},
            "Whether a lost run fails instead of being run again.",
        ),
        parameter(
            "Idempotency-Key",
            "header",
            {"type": "string", "pattern": "^[A-Za-z0-9._:-]+$", "minLength": 1, "maxLength": MAX_IDEMPOTENCY_KEY},
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


def _hint() -> dict[str, Any]:
    return parameter(
        "X-Fal-Runner-Hint",
        "header",
        {"type": "string"},
        "Requests with the same text are drawn by the same replica, unless another one is much emptier.",
    )


def _events(description: str) -> dict[str, Any]:
    content = {"text/event-stream": {"schema": dict(EVENT)}}
    return {"200": {"description": description, "headers": dict(REQUEST_ID_HEADER), "content": content}}


def _summary(endpoint: Endpoint) -> str:
    return (endpoint.input.__doc__ or "").strip().partition("\n")[0]
