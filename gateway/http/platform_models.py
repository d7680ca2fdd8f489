"""fal's platform route for its list of models: `/v1/models` of api.fal.ai, here with the six endpoints alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.endpoints import ENDPOINTS, Endpoint
from gateway.errors import PlatformError
from gateway.http import bodies
from gateway.http.hosts import origin, public_queue_root
from gateway.http.openapi import endpoint_document
from gateway.http.openapi.paths import EXPANSION, EXPANSIONS, MOST_IDS, STATUSES
from gateway.http.parts import Parts
from gateway.http.platform_files import in_platform_shape
from gateway.http.routes import Route
from gateway.http.submission import MODELS, unknown_endpoint
from gateway.validation import whole_number

SINCE = "2026-11-29T00:00:00Z"  # of the schemas


def platform_model_routes(parts: Parts) -> list[Route]:
    """Open to everybody, as fal's is and as this service's own schemas are."""

    async def models(request: Request) -> Response:
        query = request.query_params
        expansions = query.getlist("expand")
        if unknown := sorted({*expansions}.difference(EXPANSIONS)):
            raise PlatformError("bad_request", f"expand may be {' or '.join(EXPANSIONS)}, not '{unknown[0][:100]}'.")
        if query.get("status", "active") not in STATUSES:
            raise PlatformError("bad_request", "status must be 'active' or 'deprecated'.")
        found = _searched(_asked(query.getlist("endpoint_id")), query)
        limit, begin = _whole("limit", query.get("limit"), len(ENDPOINTS), 1), _whole("cursor", query.get("cursor"), 0)
        page, rest = found[begin : begin + limit], found[begin + limit :]
        told = [_told(endpoint, request, parts, expansions) for endpoint in page]
        return JSONResponse(
            bodies.PlatformModels(models=told, next_cursor=str(begin + limit) if rest else None, has_more=bool(rest))
        )

    return [Route(MODELS, in_platform_shape(models), methods=["GET"], needs=None)]


def _asked(ids: Sequence[str]) -> list[Endpoint]:
    if len(ids) > MOST_IDS:
        raise PlatformError("bad_request", f"At most {MOST_IDS} values of endpoint_id are looked up at once.")
    for one in ids:
        if one not in ENDPOINTS:
            raise unknown_endpoint(one, "Model")
    return [endpoint for endpoint in ENDPOINTS.values() if not ids or endpoint.id in ids]


def _searched(endpoints: Sequence[Endpoint], query: Mapping[str, str]) -> list[Endpoint]:
    if query.get("status") == "deprecated":
        return []
    words, category = query.get("q", "").lower().split(), query.get("category")
    return [
        endpoint
        for endpoint in endpoints
        if category in (None, category_of(endpoint))
        and all(word in f"{endpoint.id} {description_of(endpoint)} {category_of(endpoint)}".lower() for word in words)
    ]


def _told(endpoint: Endpoint, request: Request, parts: Parts, expansions: Sequence[str]) -> bodies.PlatformModel:
    root = origin(request, parts.settings.public_url)
    told: bodies.PlatformModel = {
        "endpoint_id": endpoint.id,
        "metadata": {
            "display_name": endpoint.id.removeprefix("fal-ai/"),
            "category": category_of(endpoint),
            "description": description_of(endpoint),
            "status": "active",
            "tags": ["stable-diffusion", "fooocus"],
            "updated_at": SINCE,
            "date": SINCE,
            "is_favorited": None,
            "thumbnail_url": f"{root}/",
            "model_url": f"{root}/run/{endpoint.id}",
            "highlighted": False,
            "pinned": False,
        },
    }
    if EXPANSION in expansions:
        queue = public_queue_root(request, parts.settings.public_url)
        told["openapi"] = as_3_0(endpoint_document(endpoint, queue, parts.settings.keys == "required"))
    if "enterprise_status" in expansions:
        told["enterprise_status"] = "pending"
    return told


def category_of(endpoint: Endpoint) -> str:
    needs = (field for field in endpoint.input.model_fields.values() if field.is_required())
    return "image-to-image" if any("image" in (field.description or "").lower() for field in needs) else "text-to-image"


def description_of(endpoint: Endpoint) -> str:
    return (endpoint.input.__doc__ or "").partition("\n")[0]


def as_3_0(document: Any) -> Any:
    """An OpenAPI 3.1 document in the words of 3.0, as far as ours go beyond them."""
    if isinstance(document, list):
        return [as_3_0(each) for each in document]
    if not isinstance(document, dict):
        return document
    found = {name: as_3_0(value) for name, value in document.items()}
    if isinstance(found.get("openapi"), str):
        found["openapi"] = "3.0.3"
    kinds = found.get("type")
    if isinstance(kinds, list):
        named = [kind for kind in kinds if kind != "null"]
        found |= {"nullable": True} if "null" in kinds else {}
        del found["type"]
        found |= {"type": named[0]} if len(named) == 1 else {"anyOf": [{"type": kind} for kind in named]}
    options = found.get("anyOf")
    if isinstance(options, list) and {"type": "null"} in options:
        found |= {"anyOf": [each for each in options if each != {"type": "null"}], "nullable": True}
    if "const" in found and not isinstance(found["const"], dict):
        found["enum"] = [found.pop("const")]
    if isinstance(found.get("examples"), list):
        found["example"] = found.pop("examples")[0]
    for ours, theirs in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(found.get(ours), int | float) and not isinstance(found[ours], bool):
            found |= {theirs: found[ours], ours: True}
    return found


def _whole(name: str, text: str | None, usual: int, least: int = 0) -> int:
    found = usual if text is None else whole_number(text, least)
    if found is None:
        raise PlatformError("bad_request", f"{name} must be a whole number from {least} on.")
    return found
