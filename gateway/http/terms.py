"""The terms under which a request is accepted, from its headers and its query (fal-protocol 4.1, 7.1)."""

from math import isfinite

from starlette.requests import Request

from gateway.errors import PlatformError
from gateway.http.accepting import Accepting
from gateway.http.authentication import caller
from gateway.images.ssrf import webhook_address
from gateway.ledger.base import Idempotency, Priority, Terms
from gateway.settings import GatewaySettings

MAX_NAME = 255  # characters of an Idempotency-Key
LONGEST_S = 365 * 86400.0  # that a request waits for its start; more is no different, and a date must not overflow
YES = ("1", "true", "yes")
NO = ("0", "false", "no")


def terms_of(request: Request, asked: Accepting, allow_loopback: bool) -> Terms:
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


def run_terms_of(request: Request, asked: Accepting, settings: GatewaySettings, listener: str) -> Terms:
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
    if not (asked.isascii() and asked.isdecimal()) or len(asked) > 9:
        raise PlatformError("bad_request", "fal_max_queue_length must be a whole number, 0 or more.")
    return int(asked)


def _webhook(request: Request, allow_loopback: bool) -> str | None:
    asked = request.query_params.get("fal_webhook")
    return None if asked is None else webhook_address(asked, allow_loopback)


def _idempotency(request: Request, fingerprint: str) -> Idempotency | None:
    name = request.headers.get("idempotency-key")
    if name is None:
        return None
    if not name.strip() or len(name) > MAX_NAME:
        raise PlatformError("bad_request", f"Idempotency-Key must be a text of 1 to {MAX_NAME} characters.")
    return Idempotency(name, fingerprint)
