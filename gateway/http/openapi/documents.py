"""The document of the whole service, and that of one endpoint in the form in which fal publishes it."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from gateway.endpoints import Endpoint, app_of
from gateway.http.openapi.files import files_paths
from gateway.http.openapi.history import HISTORY_LINKS, history_paths, history_shapes
from gateway.http.openapi.operations import following, run, stream, submit, taken
from gateway.http.openapi.own import own_paths
from gateway.http.openapi.platform import platform_paths, platform_shapes
from gateway.http.openapi.shapes import own_shapes, shapes
from gateway.http.openapi.storage import storage_paths, storage_shapes
from gateway.http.openapi.wording import TEMPLATE, ref, refusal_components

VERSION = "1"


def service_document(endpoints: Sequence[Endpoint], root: str, keys_required: bool) -> dict[str, Any]:
    """All routes under the service's own prefixes. root: scheme, host and port of the service."""
    schemas, names = _schemas(endpoints)
    ids = [endpoint.id for endpoint in endpoints]
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        given, result = names[endpoint.id]
        paths[f"/run/{endpoint.id}"] = {"post": run(endpoint, given, result)}
        paths[f"/run/{endpoint.id}/stream"] = {"post": stream(endpoint, given)}
        paths[f"/queue/{endpoint.id}"] = {"post": submit(endpoint, given, HISTORY_LINKS)}
    for app in dict.fromkeys(app_of(endpoint.id) for endpoint in endpoints):
        results = {str(names[one.id][1]): names[one.id][1] for one in endpoints if one.app == app}
        found = [*results.values()]
        paths |= following(f"/queue/{app}", app, found[0] if len(found) == 1 else {"anyOf": found})
    paths |= history_paths(ids) | storage_paths() | files_paths() | own_paths(ids) | platform_paths(ids)
    own = history_shapes() | storage_shapes() | own_shapes(ids) | platform_shapes()
    document = _document("Fooocus Serve", paths, {**schemas, **own}, root, keys_required)
    document["components"]["securitySchemes"] |= {"storageToken": {"type": "http", "scheme": "bearer"}}
    return document


def endpoint_document(endpoint: Endpoint, root: str, keys_required: bool) -> dict[str, Any]:
    """The queue of one endpoint. root: where the queue's routes stand."""
    schemas, names = _schemas([endpoint])
    given, result = names[endpoint.id]
    path = f"/{endpoint.id}"
    # fal names the endpoint, sub-path and all, in the paths of its requests
    paths = {path: {"post": submit(endpoint, given)}, **following(path, endpoint.app, result)}
    found = _document(f"Queue OpenAPI for {endpoint.id}", paths, schemas, root, keys_required)
    found["info"] |= {"x-fal-metadata": {"endpointId": endpoint.id}}
    return found


def _document(
    title: str, paths: Mapping[str, Any], schemas: Mapping[str, Any], root: str, keys_required: bool
) -> dict[str, Any]:
    key = {"apiKeyAuth": list[str]()}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": VERSION},
        "servers": [{"url": root}],
        "security": [key] if keys_required else [key, {}],
        "paths": dict(paths),
        "components": {
            "securitySchemes": {
                "apiKeyAuth": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`Key <id>:<secret>`",
                }
            },
            "schemas": {name: _ordered(schema) for name, schema in schemas.items()},
            "responses": refusal_components(),
        },
    }


def _schemas(endpoints: Sequence[Endpoint]) -> tuple[dict[str, Any], dict[str, tuple[dict[str, Any], dict[str, Any]]]]:
    """Schemas by name; and by endpoint, its request body and the schema of its output."""
    _, found = models_json_schema(
        [
            *((endpoint.input, "validation") for endpoint in endpoints),
            *((endpoint.output, "serialization") for endpoint in endpoints),
        ],
        ref_template=TEMPLATE,
    )
    schemas = found["$defs"]
    names = {
        endpoint.id: (
            taken(endpoint.input.__name__, bool(schemas[endpoint.input.__name__].get("required"))),
            ref(endpoint.output.__name__),
        )
        for endpoint in endpoints
    }
    return {**schemas, **shapes()}, names


def _ordered(schema: Mapping[str, Any]) -> dict[str, Any]:
    # forms are made from it, as from fal's
    properties = schema.get("properties")
    return {**schema, "x-fal-order-properties": [*properties]} if properties else dict(schema)
