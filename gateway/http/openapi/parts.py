"""What the operations of a document are made of: references, bodies, answers, refusals, parameters."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from gateway.policy import Lifecycle

TEMPLATE = "#/components/schemas/{model}"  # of references to schemas, as pydantic wants it
BY_KEY: Mapping[str, Any] = {}  # as the document says of all
OPEN: Mapping[str, Any] = {"security": []}  # for everybody, also where keys are required
# of a path: no slash and no percent sign, with which it would name another path
PIECE: Mapping[str, Any] = {"type": "string", "minLength": 1, "pattern": "^[A-Za-z0-9._-]+$"}
# a key, or the token of /rest/storage/auth/token
STORAGE: Mapping[str, Any] = {"security": [{"apiKeyAuth": []}, {"storageToken": []}, {}]}
REQUEST_ID_HEADER: Mapping[str, Any] = {
    "x-fal-request-id": {
        "description": "Id of the request, or of this call.",
        "required": True,
        "schema": {"type": "string"},
    }
}

# status -> (schema, when)
REFUSALS: Mapping[str, tuple[str, str]] = {
    "400": ("PlatformError", "A header, a parameter or the moment of the call makes no sense."),
    "401": ("PlatformError", "There is no valid API key."),
    "403": (
        "PlatformError",
        "The key lacks the scope, has used up what it may, or a page of this origin may not call.",
    ),
    "404": ("PlatformError", "There is no such thing, or it is another key's."),
    "409": ("PlatformError", "The file has another content already."),
    "413": ("PlatformError", "The body is too large."),
    "416": ("PlatformError", "The file has no such bytes."),
    "422": ("Fault", "The input cannot be served, or its Idempotency-Key was used for another one."),
    "429": ("PlatformError", "Too many requests wait or run, or too many uploads are unfinished."),
    "499": ("PlatformError", "The request was cancelled."),
    "500": ("Fault", "A fault of the service."),
    "502": ("PlatformError", "The run ended without a result."),
    "503": ("PlatformError", "Whoever draws is not there."),
    "504": ("Fault", "The request did not begin, or did not end, in time."),
}
DRAWN = ("499", "500", "502", "503", "504")  # how a run can end besides well and 422


def ref(shape: Any) -> dict[str, Any]:
    """shape: a model or a TypedDict of ours, or a schema's name."""
    name = shape if isinstance(shape, str) else shape.__name__.removesuffix("Body")
    return {"$ref": TEMPLATE.format(model=name)}


def json_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": dict(schema)}}


def answer(description: str, schema: Mapping[str, Any], headers: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An answer in JSON. headers: those that it has besides the request's id."""
    return {
        "description": description,
        "headers": {**REQUEST_ID_HEADER, **(headers or {})},
        "content": json_of(schema),
    }


def operation(
    name: str,
    summary: str,
    found: Any,
    *,
    parameters: Sequence[Mapping[str, Any]] = (),
    body: Any = None,
    security: Mapping[str, Any] = BY_KEY,
    refused: Sequence[str] = (),
    fault: Any = None,
) -> dict[str, Any]:
    """found: what a call is answered that is served, a shape (see `ref`) or answers by status. body: what it takes, a
    model or an OpenAPI object. refused: statuses of refusals beside those that follow from the rest. fault: the shape
    of refusals that differ from the others'.
    """
    codes = {"400", "500", *refused, *(() if security is OPEN else ("401", "403")), *(("413",) if body else ())}
    answers = found if isinstance(found, Mapping) else {"200": answer(summary, ref(found))}
    refusals = {
        code: {"$ref": f"#/components/responses/{code}"} if fault is None else answer(REFUSALS[code][1], ref(fault))
        for code in sorted(codes)
    }
    described: dict[str, Any] = {"operationId": name, "summary": summary, **security, "parameters": [*parameters]}
    if body is not None:
        described["requestBody"] = dict(body) if isinstance(body, Mapping) else taken(body)
    return {**described, "responses": {**refusals, **answers}}


def taken(model: type[BaseModel]) -> dict[str, Any]:
    """A request body; an empty one stands for `{}` where that is valid."""
    required = any(field.is_required() for field in model.model_fields.values())
    return {"required": required, "content": json_of(ref(model))}


def refusal_components() -> dict[str, Any]:
    """What `refusals` refers to."""
    headers = {
        "x-fal-error-type": {
            "description": "Repeats error_type, where there is one.",
            "schema": {"type": "string"},
        },
        "x-fal-retryable": {
            "description": "Whether the same request can succeed later.",
            "schema": {"type": "string", "enum": ["true", "false"]},
        },
    }
    return {code: answer(when, ref(schema), headers) for code, (schema, when) in REFUSALS.items()}


def parameter(
    name: str, place: str, schema: Mapping[str, Any], description: str, *, required: bool = False
) -> dict[str, Any]:
    """place: `query`, `header` or `path`."""
    found = {"name": name, "in": place, "description": description, "schema": dict(schema)}
    return found | ({"required": True} if required or place == "path" else {})


def operation_id(verb: str, name: str) -> str:
    """A name that code generators can use; unique where verb and name are."""
    return "_".join([verb, *"".join(c if c.isalnum() else " " for c in name).split()])


def lifecycle_parameters(names: Sequence[str], description: str) -> list[dict[str, Any]]:
    """Headers that hold a `Lifecycle` as JSON. names: in any case."""
    content = {"content": json_of(ref(Lifecycle))}
    return [{"name": name.title(), "in": "header", "description": description, **content} for name in names]


def request_named() -> dict[str, Any]:
    # no slash and no percent sign, with which it would name another path
    text = {"type": "string", "minLength": 1, "pattern": "^[A-Za-z0-9_-]+$"}
    return parameter("request_id", "path", text, "As submit told it.")
