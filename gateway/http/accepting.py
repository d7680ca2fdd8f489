"""From an HTTP request to an order: the endpoint, the input, its pictures taken in."""

import asyncio
import hashlib
import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request

from gateway.endpoints import ENDPOINTS, Endpoint, Order
from gateway.errors import ModelError, PlatformError
from gateway.files.base import Files
from gateway.http.authentication import MODELS, TOKEN, caller
from gateway.http.bodies import body_bytes, unreadable
from gateway.http.inputs import own_weights, take_in
from gateway.http.parts import Parts
from gateway.http.surfaces import HOSTS, origin
from gateway.images.sources import STORED, OwnFiles
from gateway.policy import OF_OUTPUTS, lifecycle_of
from gateway.settings import GatewaySettings
from gateway.validation import nearest
from gateway.work import FamilyState
from gateway.worker.reaper import discard
from pipelines.spec import Spec

MOST_VALUES = 20_000  # values of a body; parsing one costs fifty times what a byte of a long text does
MAX_TEXT = 10_000  # characters that are kept of a text, as many as a prompt may have
MAX_INPUT = 256 * 1024  # characters of an input's JSON; a larger one is not kept
MAX_MEDIA_TYPE = 100  # characters that are kept of a data URI
MAX_DEPTH = 32  # levels of an input that are kept; no schema has as many

logger = logging.getLogger("fooocus.gateway")


def endpoint_of(endpoint_id: str) -> Endpoint:
    """The endpoint that the path names. Raises a 404 for an unknown one, a 405 for a path of the requests' routes."""
    endpoint = ENDPOINTS.get(endpoint_id.strip("/"))
    if endpoint is None:
        if "/requests/" in endpoint_id:
            raise HTTPException(405)
        raise unknown_endpoint(endpoint_id)
    return endpoint


def unknown_endpoint(endpoint_id: str, called: str = "Application") -> PlatformError:
    """A 404 that names the endpoint which was meant, or where all are. called: what the caller's route calls it."""
    # all have one owner, which would make names alike that are not
    short = {known.partition("/")[2]: known for known in ENDPOINTS}
    given = endpoint_id.strip("/")
    found = nearest(given.partition("/")[2], short) or nearest(given, short)
    hint = f"did you mean '{short[found[0]]}'?" if found else f"GET {MODELS} lists what there is"
    return PlatformError("bad_request", f"{called} '{endpoint_id[:200]}' not found; {hint}", status=404)


@dataclass(frozen=True, slots=True)
class Accepting:
    """What a request asks for.

    fingerprint: SHA-256 (hex) of its input as it came. media: the keys of the pictures that came inside it. input: its
    input as JSON, without the pictures themselves; None for one that is too large to be kept.
    """

    order: Order
    fingerprint: str
    media: tuple[str, ...]
    input: str | None

    async def forget(self, files: Files) -> None:
        """Remove the pictures again: the request is not accepted, or had been before."""
        await discard(self.media, files)


async def accept(request: Request, endpoint: Endpoint, parts: Parts) -> Accepting:
    """The order that a submit or a run asks for, with its inline pictures and those of our own files stored.

    Raises ValidationErrors for an input that breaks its schema, or that whoever draws would refuse.
    """
    settings = parts.settings
    lifecycle = lifecycle_of(request.headers, OF_OUTPUTS)
    payload = await _payload(request, settings.max_body_bytes)
    request_id = str(uuid.uuid4())
    family = parts.family or FamilyState("", (), {})
    order = endpoint.order(payload, request_id, origin(request, settings.public_url), family.missing, family.styles)
    digest, kept_input = await asyncio.to_thread(_examined, parts.check, order.work.spec, payload)
    kept = {
        "owner": caller(request).key,
        "acl": lifecycle.initial_acl,
        "expires_in_s": lifecycle.expires_in_s(settings.outputs_expire_s),
    }
    delivery = order.work.delivery.model_copy(update=kept)
    spec = order.work.spec
    own = OwnFiles(parts.files, caller(request), settings.files_access, origins(request, settings))
    spec = await own_weights(spec, own)
    if spec.pictures:
        limits = settings.max_image_bytes, settings.max_image_pixels
        spec = await take_in(spec, request_id, parts.files, *limits, own)
    work = order.work.model_copy(update={"spec": spec, "delivery": delivery})
    if order.inactive:
        logger.info("request %s: accepted but without effect: %s", request_id, endpoint.without_effect(order.inactive))
    return Accepting(Order(work, order.inactive), digest, _stored(spec), kept_input)


def _examined(check: Callable[[Spec], None], spec: Spec, payload: Any) -> tuple[str, str | None]:
    """The fingerprint of an input that the check lets pass, and what is kept of it."""
    check(spec)
    kept = json.dumps(_without_data(payload))
    digest = hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()
    return digest, kept if len(kept) <= MAX_INPUT else None


def _without_data(value: Any, depth: int = 0) -> Any:
    """`value` as an answer can show it, what is no JSON replaced: Python reads NaN, and halves of characters.

    Its data URIs are cut off behind their media types: the pictures are in the files store.
    """
    match value:
        case dict() | list() if depth == MAX_DEPTH:
            return "…"
        case dict():
            return {_unicode(name): _without_data(each, depth + 1) for name, each in value.items()}
        case list():
            return [_without_data(each, depth + 1) for each in value]
        case str() if (bare := value.lstrip())[:5].lower() == "data:":
            return f"{_unicode(bare.partition(',')[0][:MAX_MEDIA_TYPE])},…"
        case str():
            return _unicode(value if len(value) <= MAX_TEXT else f"{value[:MAX_TEXT]}…")
        case float() if not isfinite(value):
            return None
        case _:
            return value


def _unicode(text: str) -> str:
    # the halves of surrogate pairs, which JSON can say alone and no answer can be encoded with
    return text.encode("utf-8", "replace").decode("utf-8")


def _stored(spec: Spec) -> tuple[str, ...]:
    sources = (picture.source for picture in spec.pictures)
    return tuple(source.removeprefix(STORED) for source in sources if source.startswith(STORED))


def origins(request: Request, settings: GatewaySettings) -> set[str]:
    """Where our own files are reached: as this client reaches us, at the public address, under fal's names."""
    roots = [urlsplit(root) for root in (str(request.url), settings.public_url) if root]
    return {
        f"{root.netloc}:{443 if root.scheme == 'https' else 80}" if root.port is None else root.netloc for root in roots
    } | set(HOSTS)


async def _payload(request: Request, max_bytes: int) -> Any:
    if request.method == "GET":  # the JavaScript client's `method: "get"` (fal-protocol 3)
        query = request.query_params
        names = [name for name in query if name != TOKEN]
        return {name: values[0] if len(values := query.getlist(name)) == 1 else values for name in names}
    body = await body_bytes(request, max_bytes)
    if not body.strip():
        return {}
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:  # commas of texts too, of which no prompt has as many
        raise PlatformError("bad_request", f"The body has more than {MOST_VALUES} values.", status=413)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as fault:
        raise ModelError("json_invalid", unreadable(request, body, fault)) from None
