"""The OpenAPI document, made from the endpoints' own schemas."""

from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from gateway.endpoints import Endpoint

VERSION = "1"


def openapi(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Sync run and queue of `endpoints` as OpenAPI 3.1; faults are described in words only (fal-protocol 8)."""
    names, schemas = models_json_schema(
        [
            *((endpoint.input, "validation") for endpoint in endpoints),
            *((endpoint.output, "serialization") for endpoint in endpoints),
        ],
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        taken = {"requestBody": {"required": True, "content": _json(names[endpoint.input, "validation"])}}
        given = _answer("The output.", names[endpoint.output, "serialization"])
        summary = (endpoint.input.__doc__ or "").strip().partition("\n")[0]
        paths[f"/run/{endpoint.id}"] = {
            "post": {"summary": summary, **taken, "responses": {"200": given, **_faults()}},
        }
        paths[f"/queue/{endpoint.id}"] = {
            "post": {
                "summary": f"{summary} Answers at once with the addresses to follow.",
                **taken,
                "responses": {
                    "200": _answer("Accepted: request_id, status_url, response_url, cancel_url."),
                    **_faults(),
                },
            },
        }
        paths |= _following(endpoint.app, given if len(endpoints) == 1 else _answer("The output."))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Fooocus Serve", "version": VERSION},
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }


def _following(app: str, result: dict[str, Any]) -> dict[str, Any]:
    request_id = {"name": "request_id", "in": "path", "required": True, "schema": {"type": "string"}}
    logs = {"name": "logs", "in": "query", "schema": {"type": "boolean"}}
    one = f"/queue/{app}/requests/{{request_id}}"
    waiting, ended = _answer("Waits or runs."), _answer("Ended, well or not.")
    return {
        f"{one}/status": {
            "get": {
                "summary": "Where a request is.",
                "parameters": [request_id, logs],
                "responses": {"202": waiting, "200": ended, **_faults()},
            }
        },
        one: {
            "get": {
                "summary": "The output or the failure of a request that has ended.",
                "parameters": [request_id],
                "responses": {"200": result, **_faults()},
            }
        },
        f"{one}/cancel": {
            "put": {
                "summary": "Cancel a request.",
                "parameters": [request_id],
                "responses": {"202": _answer("Accepted."), **_faults()},
            }
        },
    }


def _answer(description: str, schema: Any = None) -> dict[str, Any]:
    return {"description": description, "content": _json(schema or {"type": "object"})}


def _faults() -> dict[str, Any]:
    return {"4XX": _answer("A fault of the request."), "5XX": _answer("A fault of the service.")}


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
