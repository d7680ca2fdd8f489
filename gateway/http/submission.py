"""From an HTTP request to a row in the ledger: the endpoint, the input, its terms, what its key may ask for."""

import asyncio
import hashlib
import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request

from gateway.endpoints import ENDPOINTS, Endpoint, Order
from gateway.errors import ModelError, PlatformError
from gateway.files.base import Files
from gateway.http.auth import TOKEN, caller
from gateway.http.hosts import HOSTS, origin
from gateway.http.inputs import own_weights, store_inputs
from gateway.http.parts import Parts
from gateway.http.request_body import json_bytes, parsed
from gateway.images.ssrf import webhook_address
from gateway.keys.base import Caller, Keys, spent
from gateway.ledger.models import Accepted, Idempotency, Place, Priority, Terms
from gateway.monitoring.contract import ACCEPTED
from gateway.monitoring.trace import Trace, follow, tell
from gateway.picture_sources import STORED, LocalFileResolver
from gateway.policy import OF_OUTPUTS, lifecycle_of
from gateway.settings import GatewaySettings
from gateway.validation import nearest, whole_number
from gateway.work import FamilyState
from gateway.worker.reaper import delete_files
from pipelines.spec import Spec

MODELS = "/api/v1/models"  # the list of the endpoints
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
class Submission:
    """What a request asks for.

    fingerprint: SHA-256 (hex) of its input as it came. media: the keys of the pictures that came inside it. input: its
    input as JSON, without the pictures themselves; None for one that is too large to be kept. began: when it came, by
    `monotonic`.
    """

    order: Order
    fingerprint: str
    media: tuple[str, ...]
    input: str | None
    began: float

    async def forget(self, files: Files) -> None:
        """Remove the pictures again: the request is not accepted, or had been before."""
        await delete_files(self.media, files)


async def accept(request: Request, endpoint: Endpoint, payload: Any, parts: Parts) -> Submission:
    """The order that a submit or a run asks for, with its inline pictures and those of our own files stored.

    payload: the input, as decoded JSON, however it came.

    Raises ValidationErrors for an input that breaks its schema, or that whoever draws would refuse.
    """
    began, settings = monotonic(), parts.settings
    lifecycle = lifecycle_of(request.headers, OF_OUTPUTS)
    request_id = str(uuid.uuid4())
    follow(Trace(request_id, endpoint.id, caller(request).key))
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
    own = own_files(request, parts)
    spec = await own_weights(spec, own)
    if spec.pictures:
        limits = settings.max_image_bytes, settings.max_image_pixels
        spec = await store_inputs(spec, request_id, parts.files, *limits, own)
    work = order.work.model_copy(update={"spec": spec, "delivery": delivery, "hint": hint_of(request)})
    if order.inactive:
        logger.info("request %s: accepted but without effect: %s", request_id, endpoint.without_effect(order.inactive))
    return Submission(Order(work, order.inactive), digest, _stored(spec), kept_input, began)


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


def own_files(request: Request, parts: Parts) -> LocalFileResolver:
    """The files of the store that the caller may name."""
    settings = parts.settings
    return LocalFileResolver(parts.files, caller(request), settings.files_access, origins(request, settings))


def origins(request: Request, settings: GatewaySettings) -> set[str]:
    """Where our own files are reached: as this client reaches us, at the public address, under fal's names."""
    roots = [urlsplit(root) for root in (str(request.url), settings.public_url) if root]
    return {
        f"{root.netloc}:{443 if root.scheme == 'https' else 80}" if root.port is None else root.netloc for root in roots
    } | set(HOSTS)


async def payload_of(request: Request, max_bytes: int) -> Any:
    """The input of a submit or a run on fal's routes: the body as JSON, or the query of a GET."""
    if request.method == "HEAD":  # the router adds it to GET, and it must draw nothing
        raise HTTPException(405, headers={"Allow": "GET, POST"})
    if request.method == "GET":  # the JavaScript client's `method: "get"` (fal-protocol 3)
        query = request.query_params
        names = [name for name in query if name != TOKEN]
        return {name: values[0] if len(values := query.getlist(name)) == 1 else values for name in names}
    return parsed(request, await json_bytes(request, max_bytes), partial(ModelError, "json_invalid"))


MAX_IDEMPOTENCY_KEY = 255  # characters of an Idempotency-Key
MAX_HINT = 256  # characters of an X-Fal-Runner-Hint that count
LONGEST_S = 365 * 86400.0  # that a request waits for its start; more is no different, and a date must not overflow
YES = ("1", "true", "yes")
NO = ("0", "false", "no")


def terms_of(request: Request, asked: Submission, allow_loopback: bool) -> Terms:
    """What a submit asks for besides its input. Raises PlatformError (400) for a header that makes no sense.

    allow_loopback: webhooks may be sent to this machine.
    """
    who = caller(request)
    return Terms(
        key=who.key,
        max_of_key=who.limits.queue_length,
        priority=_priority(request),
        start_within_s=start_within(request),
        max_ahead=_max_ahead(request),
        idempotency=_idempotency(request, asked.fingerprint),
        webhook=_webhook(request, allow_loopback),
        media=asked.media,
        input=asked.input,
        store_io=stores_io(request),
        may_retry=_may_retry(request),
    )


def run_terms_of(request: Request, asked: Submission, settings: GatewaySettings, listener: str) -> Terms:
    """What a sync run asks for. listener: this process, whose client waits. Raises as `terms_of`."""
    who = caller(request)
    return Terms(
        key=who.key,
        max_of_key=who.limits.queue_length,
        max_open=settings.open_calls_of_key,
        priority=_priority(request),
        start_within_s=start_within(request),
        media=asked.media,
        input=asked.input,
        store_io=stores_io(request),
        may_retry=_may_retry(request),
        listener=listener,
        listen_s=settings.lease_s,
    )


def start_within(request: Request) -> float | None:
    """Seconds within which the client wants its request to begin; None where it does not mind."""
    asked = request.headers.get("x-fal-request-timeout")
    if asked is None:
        return None
    try:
        seconds = float(asked)
    except ValueError:
        seconds = 0.0
    if not isfinite(seconds) or seconds <= 0.1:
        raise PlatformError("bad_request", "X-Fal-Request-Timeout must be a number of seconds above 0.1.")
    return min(seconds, LONGEST_S)


def stores_io(request: Request) -> bool:
    """Whether the history may show what goes in and comes out (`X-Fal-Store-IO`)."""
    return request.headers.get("x-fal-store-io", "1").lower() not in NO


def hint_of(request: Request) -> str:
    """What the client wants to find again at the replica that draws (`X-Fal-Runner-Hint`): any text."""
    return request.headers.get("x-fal-runner-hint", "")[:MAX_HINT]


def _may_retry(request: Request) -> bool:
    return request.headers.get("x-fal-no-retry", "").lower() not in YES


def _priority(request: Request) -> Priority:
    asked = request.headers.get("x-fal-queue-priority", "normal").lower()
    if asked not in ("normal", "low"):
        raise PlatformError("bad_request", "X-Fal-Queue-Priority must be 'normal' or 'low'.")
    return Priority.LOW if asked == "low" else Priority.NORMAL


def _max_ahead(request: Request) -> int | None:
    asked = request.query_params.get("fal_max_queue_length")
    if asked is None:
        return None
    if (most := whole_number(asked, most=10**9 - 1)) is None:
        raise PlatformError("bad_request", "fal_max_queue_length must be a whole number, 0 or more.")
    return most


def _webhook(request: Request, allow_loopback: bool) -> str | None:
    asked = request.query_params.get("fal_webhook")
    return None if asked is None else webhook_address(asked, allow_loopback)


def _idempotency(request: Request, fingerprint: str) -> Idempotency | None:
    name = request.headers.get("idempotency-key")
    if name is None:
        return None
    if not name.strip() or len(name) > MAX_IDEMPOTENCY_KEY:
        raise PlatformError("bad_request", f"Idempotency-Key must be a text of 1 to {MAX_IDEMPOTENCY_KEY} characters.")
    return Idempotency(name, fingerprint)


UNKNOWN_SIZE = 1024 * 1024  # pixels counted for a picture whose size its start image says, which is fetched later


class Quota:
    """Holds callers to the daily budget of their keys. A service without keys has none.

    How many of a key may wait or run is the ledger's to bound, in the transaction that adds to them.
    """

    def __init__(self, keys: Keys | None) -> None:
        self._keys = keys

    async def reserve(self, caller: Caller, spec: Spec) -> None:
        """Count a request that is about to be accepted; it counts whatever becomes of it then.

        Raises PlatformError (403) where the budget does not reach. Of requests at once none counts past it.
        """
        if self._keys is None or not caller.key:
            return
        budget, asked = caller.limits.pixel_steps, pixel_steps(spec)
        if not await self._keys.reserve(caller.key, asked, budget) and budget is not None:
            _, used = await self._keys.used(caller.key)
            raise spent(budget, used, asked)

    async def refund(self, caller: Caller, spec: Spec) -> None:
        """Take back the charge of a request that was not accepted after all."""
        if self._keys is not None and caller.key:
            await self._keys.refund(caller.key, pixel_steps(spec))


def pixel_steps(spec: Spec) -> int:
    """Width x height x steps, summed over the pictures; enlarging one without a step counts as one.

    Of a canvas the part that is drawn counts, which is about that of an unknown size, whatever the spec says.
    """
    pixels = UNKNOWN_SIZE if spec.size is None else spec.size.width * spec.size.height
    if spec.canvas is not None:
        pixels = max(pixels, UNKNOWN_SIZE)  # where nothing of it is marked, the size of the spec is drawn
    return pixels * max(spec.steps, 1) * len(spec.seeds)


async def submit(
    request: Request,
    endpoint: Endpoint,
    asked: Submission,
    terms: Callable[[], Terms],
    parts: Parts,
    place: Place | None = None,
) -> Accepted:
    """Add a request to the queue, or where nothing waits to the `place` that is free for it. Raises PlatformError for
    terms that make no sense, and where its key, or the service, takes no more.

    To be awaited to its end: a caller that is cancelled in the midst of it would take away the pictures of what was
    accepted just then.
    """
    accepted = None
    try:
        accepted = await _charged(request, endpoint, asked, terms(), parts, place)
    finally:
        if accepted is None or accepted.repeated:
            await asked.forget(parts.files)
    if accepted.repeated:
        follow(replace(asked.order.work.trace(), request_id=accepted.request_id))
    return accepted


async def _charged(
    request: Request, endpoint: Endpoint, asked: Submission, terms: Terms, parts: Parts, place: Place | None
) -> Accepted:
    work, who, quota, accepted = asked.order.work, caller(request), Quota(parts.keys), None
    # what was accepted before costs its key nothing and is never too much
    if (known := await parts.ledger.repeated(work, terms)) is not None:
        return known
    await quota.reserve(who, work.spec)
    try:
        accepted = await parts.ledger.submit(work, endpoint.app, terms, place)
        if not accepted.repeated:
            _tell_accepted(asked, terms, accepted, parts)
    finally:
        if accepted is None or accepted.repeated:
            await quota.refund(who, work.spec)
    return accepted


def _tell_accepted(asked: Submission, terms: Terms, accepted: Accepted, parts: Parts) -> None:
    kind, priority = "queue" if terms.listener is None else "run", terms.priority.name.lower()
    seconds, endpoint = monotonic() - asked.began, asked.order.work.endpoint
    tell("accepted", seconds, "accepted as a %s of %s priority, position %d", kind, priority, accepted.position)
    parts.monitor.add(ACCEPTED, endpoint=endpoint, kind=kind, priority=priority)
    parts.monitor.span("accept", asked.order.work.trace(), seconds)
