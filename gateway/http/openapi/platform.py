"""The operations of fal's platform routes: the list of models, signed addresses of files, who may read a file."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from gateway.http.openapi.wording import OPEN, answer, json_of, object_of, parameter, ref
from gateway.http.platform_files import LONGEST_S, MAX_URL
from gateway.policy import MAX_RULES, Decision

EXPANSION = "openapi-3.0"
EXPANSIONS = (EXPANSION, "enterprise_status")
STATUSES = ("active", "deprecated")
MOST_IDS = 50  # that are asked for at once

_TEXT: Mapping[str, Any] = {"type": "string"}
_URL: Mapping[str, Any] = {"type": "string", "format": "uri"}
_INSTANT: Mapping[str, Any] = {"type": "string", "format": "date-time"}
_FLAG: Mapping[str, Any] = {"type": "boolean"}
_ACL: Mapping[str, Any] = {
    "default": {"type": "string", "enum": [*get_args(Decision)], "description": "For whom no rule names."},
    "rules": {"type": "array", "maxItems": MAX_RULES, "items": ref("AclRule")},
}
_FAULTS: Mapping[str, str] = {
    "400": "A parameter or the body makes no sense.",
    "401": "There is no valid API key.",
    "403": "The key lacks the scope, or a page of this origin may not call.",
    "404": "There is no such model, or no such file of the caller's own.",
    "413": "The body is too large.",
    "500": "A fault of the service.",
}


def platform_paths(endpoint_ids: Sequence[str]) -> dict[str, Any]:
    """Without their second form, under the Host `api.fal.ai`."""
    files = "/api/v1/storage/files"
    return {
        "/api/v1/models": {"get": _models(endpoint_ids)},
        f"{files}/sign": {"post": _sign()},
        f"{files}/acl": {"get": _acl(), "put": _replace_acl()},
    }


def platform_shapes() -> dict[str, Any]:
    """Schemas by name."""
    metadata = {
        **dict.fromkeys(("display_name", "category", "description"), _TEXT),
        "status": {"type": "string", "enum": [*STATUSES]},
        "tags": {"type": "array", "items": _TEXT},
        **dict.fromkeys(("updated_at", "date"), _INSTANT),
        "is_favorited": {"type": ["boolean", "null"]},
        **dict.fromkeys(("thumbnail_url", "model_url"), _URL),
        **dict.fromkeys(("highlighted", "pinned"), _FLAG),
    }
    return {
        "PlatformModel": object_of(
            {
                "endpoint_id": _TEXT,
                "metadata": object_of(metadata),
                "openapi": {"type": "object", "description": "Its queue, as OpenAPI 3.0, where that is asked for."},
                "enterprise_status": {"type": "string", "enum": ["ready", "pending"]},
            },
            optional=("openapi", "enterprise_status"),
        ),
        "PlatformModels": object_of(
            {
                "models": {"type": "array", "items": ref("PlatformModel")},
                "next_cursor": {"type": ["string", "null"], "description": "For the page after; null after the last."},
                "has_more": _FLAG,
            }
        ),
        "Signing": object_of({"expiration_seconds": {"type": "integer", "minimum": 1, "maximum": LONGEST_S}}),
        "SignedAddress": object_of({"signed_url": {**_URL, "description": "Opens the file without a key."}}),
        "FileAcl": object_of(_ACL),
        "NewFileAcl": object_of(_ACL, optional=("rules",)),
        "PlatformFault": object_of(
            {
                **dict.fromkeys(("detail", "error_type", "message"), _TEXT),
                "error": object_of(dict.fromkeys(("type", "message"), _TEXT), description="As fal's platform has it."),
            },
            optional=("error",),
        ),
    }


def _models(endpoint_ids: Sequence[str]) -> dict[str, Any]:
    ids = {"type": "array", "maxItems": MOST_IDS, "items": {"type": "string", "enum": [*endpoint_ids]}}
    limit = {"type": "integer", "minimum": 1, "maximum": 99_999_999, "default": len(endpoint_ids)}
    return {
        "operationId": "platform_models",
        "summary": "The endpoints, as fal's platform lists its models.",
        **OPEN,
        "parameters": [
            parameter("endpoint_id", "query", ids, "Only these."),
            parameter("q", "query", _TEXT, "Only those that have all of these words."),
            parameter("category", "query", _TEXT, "Such as text-to-image."),
            parameter("status", "query", {"type": "string", "enum": [*STATUSES]}, "All are active."),
            parameter("expand", "query", {"type": "array", "items": {"enum": [*EXPANSIONS]}}, "What to add to each."),
            parameter("limit", "query", limit, "Of a page."),
            parameter("cursor", "query", {**_TEXT, "pattern": "^[0-9]{1,8}$"}, "From the page before."),
        ],
        "responses": {"200": answer("A page of them.", ref("PlatformModels")), **_refused("400", "404", "500")},
    }


def _sign() -> dict[str, Any]:
    return {
        "operationId": "sign_file",
        "summary": "An address that opens one of the caller's own files to whoever has it, for a time.",
        "parameters": [_file()],
        "requestBody": {"required": True, "content": json_of(ref("Signing"))},
        "responses": {"200": answer("The address.", ref("SignedAddress")), **_refused(*_FAULTS)},
    }


def _acl() -> dict[str, Any]:
    return {
        "operationId": "file_acl",
        "summary": "Who may read one of the caller's own files.",
        "parameters": [_file()],
        "responses": {
            "200": answer("As it acts.", ref("FileAcl")),
            **_refused("400", "401", "403", "404", "500"),
        },
    }


def _replace_acl() -> dict[str, Any]:
    return {
        "operationId": "replace_file_acl",
        "summary": "Replace who may read one of the caller's own files; rules of unknown keys are dropped.",
        "parameters": [_file()],
        "requestBody": {"required": True, "content": json_of(ref("NewFileAcl"))},
        "responses": {"200": answer("As it acts from now on.", ref("FileAcl")), **_refused(*_FAULTS)},
    }


def _file() -> dict[str, Any]:
    known = {**_URL, "minLength": 1, "maxLength": MAX_URL}
    return parameter("url", "query", known, "The address of a file of this service, without a query.", required=True)


def _refused(*codes: str) -> dict[str, Any]:
    return {code: answer(_FAULTS[code], ref("PlatformFault")) for code in codes}
