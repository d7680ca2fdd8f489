"""The pieces of a document that its operations share: references, JSON bodies, answers, refusals, parameters."""

from collections.abc import Mapping, Sequence
from typing import Any

TEMPLATE = "#/components/schemas/{model}"  # of references to schemas, as pydantic wants it
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


def ref(schema: str) -> dict[str, Any]:
    return {"$ref": TEMPLATE.format(model=schema)}


def json_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": dict(schema)}}


def answer(description: str, schema: Mapping[str, Any], headers: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An answer in JSON. headers: those that it has besides the request's id."""
    return {
        "description": description,
        "headers": {**REQUEST_ID_HEADER, **(headers or {})},
        "content": json_of(schema),
    }


def refusals(*codes: str) -> dict[str, Any]:
    """The refusals of an operation, by reference."""
    return {code: {"$ref": f"#/components/responses/{code}"} for code in codes}


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


def object_of(
    properties: Mapping[str, Any], *, optional: tuple[str, ...] = (), description: str = ""
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
    }
    return found | ({"description": description} if description else {})


def lifecycle_parameters(names: Sequence[str], description: str) -> list[dict[str, Any]]:
    """Headers that hold a `Lifecycle` as JSON. names: in any case."""
    content = {"content": json_of(ref("Lifecycle"))}
    return [{"name": name.title(), "in": "header", "description": description, **content} for name in names]


def request_named() -> dict[str, Any]:
    # no slash and no percent sign, with which it would name another path
    text = {"type": "string", "minLength": 1, "pattern": "^[A-Za-z0-9_-]+$"}
    return parameter("request_id", "path", text, "As submit told it.")
