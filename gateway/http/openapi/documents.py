"""The document of the whole service, and that of one endpoint in the form in which fal publishes it."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from gateway.endpoints import Endpoint, app_of
from gateway.errors import HTTPValidationErrorBody, PlatformErrorBody
from gateway.http import bodies
from gateway.http.openapi.operations import following, run, stream, submit
from gateway.http.openapi.parts import TEMPLATE, ref, refusal_components
from gateway.http.openapi.paths import LINKS, paths_of
from gateway.policy import Lifecycle
from gateway.webhooks.signing import KeySet

VERSION = "1"
OF_QUEUES = (
    *(Lifecycle, HTTPValidationErrorBody, PlatformErrorBody),
    *(bodies.Accepted, bodies.QueueStatus, bodies.CancelAnswer, bodies.CancelRefusal),
)
OF_ALL = (
    *(bodies.HistoryPage, bodies.HistoryRecord, bodies.Deletion),
    *(bodies.UploadRequest, bodies.UploadAddress, bodies.StorageToken, bodies.FileUrl, bodies.FileDeletion),
    *(bodies.AccessUrl, bodies.BegunUpload, bodies.UploadedPart, bodies.UploadedParts, bodies.CompletedUpload),
    *(bodies.PlatformModels, bodies.PlatformFault),
    *(bodies.Signing, bodies.SignedAddress, bodies.FileAcl, bodies.NewFileAcl),
    *(bodies.TokenRequest, KeySet, bodies.Health, bodies.Readiness, bodies.ServiceStatus),
)


def service_document(endpoints: Sequence[Endpoint], root: str, keys_required: bool) -> dict[str, Any]:
    """All routes under the service's own prefixes. root: scheme, host and port of the service."""
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths[f"/run/{endpoint.id}"] = {"post": run(endpoint)}
        paths[f"/run/{endpoint.id}/stream"] = {"post": stream(endpoint)}
        paths[f"/queue/{endpoint.id}"] = {"post": submit(endpoint, LINKS)}
    for app in dict.fromkeys(app_of(endpoint.id) for endpoint in endpoints):
        results = [ref(output) for output in dict.fromkeys(one.output for one in endpoints if one.app == app)]
        paths |= following(f"/queue/{app}", app, results[0] if len(results) == 1 else {"anyOf": results})
    paths |= paths_of([endpoint.id for endpoint in endpoints])
    schemas = {**_schemas(endpoints), **_OWN}
    document = _document("Fooocus Serve", paths, schemas, root, keys_required)
    document["components"]["securitySchemes"] |= {"storageToken": {"type": "http", "scheme": "bearer"}}
    return document


def endpoint_document(endpoint: Endpoint, root: str, keys_required: bool) -> dict[str, Any]:
    """The queue of one endpoint. root: where the queue's routes stand."""
    path = f"/{endpoint.id}"
    # fal names the endpoint, sub-path and all, in the paths of its requests
    paths = {path: {"post": submit(endpoint)}, **following(path, endpoint.app, ref(endpoint.output))}
    schemas = {**_schemas([endpoint]), **_OWN_OF_QUEUES}
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


def _schemas(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """What the endpoints take and draw, by name."""
    _, found = models_json_schema(
        [
            *((endpoint.input, "validation") for endpoint in endpoints),
            *((endpoint.output, "serialization") for endpoint in endpoints),
        ],
        ref_template=TEMPLATE,
    )
    schemas: dict[str, Any] = found["$defs"]
    return schemas


class _Untitled(GenerateJsonSchema):
    """Schemas under the names of `ref`, whose titles would only repeat them."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def normalize_name(self, name: str) -> str:
        return super().normalize_name(name).removesuffix("Body")


def _own_schemas(*shapes: Any) -> dict[str, Any]:
    """Shapes of ours, by name."""
    _, found = TypeAdapter.json_schemas(
        [(shape.__name__, "validation", TypeAdapter(shape)) for shape in shapes],
        ref_template=TEMPLATE,
        schema_generator=_Untitled,
    )
    schemas = {name: {key: schema[key] for key in schema if key != "title"} for name, schema in found["$defs"].items()}
    return {**schemas, "Fault": {"anyOf": [ref(HTTPValidationErrorBody), ref(PlatformErrorBody)]}}


# once, for making adapters of them takes as long as the rest of a document, and whoever may ask needs no key
_OWN_OF_QUEUES: Mapping[str, Any] = _own_schemas(*OF_QUEUES)
_OWN: Mapping[str, Any] = _own_schemas(*OF_QUEUES, *OF_ALL)


def _ordered(schema: Mapping[str, Any]) -> dict[str, Any]:
    # forms are made from it, as from fal's
    properties = schema.get("properties")
    return {**schema, "x-fal-order-properties": [*properties]} if properties else dict(schema)
