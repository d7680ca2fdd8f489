"""The terms under which a request is accepted, from its headers and its query (fal-protocol 4.1, 7.1)."""

from math import isfinite

from starlette.requests import Request

from gateway.errors import PlatformError
from gateway.ledger.base import Idempotency, Priority, Terms
from gateway.pictures import STORED
from pipelines.spec import Spec

MAX_NAME = 255  # characters of an Idempotency-Key
YES = ("1", "true", "yes")


def terms_of(request: Request, spec: Spec, fingerprint: str) -> Terms:
    """What a submit asks for besides its input. Raises PlatformError (400) for a header that makes no sense.

    spec: with its inline pictures stored. fingerprint: SHA-256 of the input, for the idempotency key.
    """
    return Terms(
        priority=_priority(request),
        start_within_s=start_within(request),
        max_ahead=_max_ahead(request),
        idempotency=_idempotency(request, fingerprint),
        media=stored_inputs(spec),
        may_retry=request.headers.get("x-fal-no-retry", "").lower() not in YES,
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
    return seconds


def stored_inputs(spec: Spec) -> tuple[str, ...]:
    """The keys of the pictures that came inside the request."""
    sources = [control.image for control in spec.controls] + ([spec.start.image] if spec.start else [])
    return tuple(source.removeprefix(STORED) for source in sources if source.startswith(STORED))


def _priority(request: Request) -> Priority:
    asked = request.headers.get("x-fal-queue-priority", "normal").lower()
    if asked not in ("normal", "low"):
        raise PlatformError("bad_request", "X-Fal-Queue-Priority must be 'normal' or 'low'.")
    return Priority.LOW if asked == "low" else Priority.NORMAL


def _max_ahead(request: Request) -> int | None:
    asked = request.query_params.get("fal_max_queue_length")
    if asked is None:
        return None
    if not (asked.isascii() and asked.isdecimal()) or len(asked) > 9:
        raise PlatformError("bad_request", "fal_max_queue_length must be a whole number, 0 or more.")
    return int(asked)


def _idempotency(request: Request, fingerprint: str) -> Idempotency | None:
    name = request.headers.get("idempotency-key")
    if name is None:
        return None
    if not name.strip() or len(name) > MAX_NAME:
        raise PlatformError("bad_request", f"Idempotency-Key must be a text of 1 to {MAX_NAME} characters.")
    return Idempotency(name, fingerprint)
