"""Putting what a client asks for into the queue: counted for its key, and nothing left where it is not accepted."""

from collections.abc import Callable

from starlette.requests import Request

from gateway.endpoints import Endpoint
from gateway.http.accepting import Accepting
from gateway.http.admission import Admission
from gateway.http.authentication import caller
from gateway.http.parts import Parts
from gateway.ledger.base import Accepted, Terms


async def submit(
    request: Request, endpoint: Endpoint, asked: Accepting, terms: Callable[[], Terms], parts: Parts
) -> Accepted:
    """Add a request to the queue. Raises PlatformError for terms that make no sense, and where its key, or the service,
    takes no more.

    To be awaited to its end: a caller that is cancelled in the midst of it would take away the pictures of what was
    accepted just then.
    """
    accepted = None
    try:
        accepted = await _charged(request, endpoint, asked, terms(), parts)
    finally:
        if accepted is None or accepted.repeated:
            await asked.forget(parts.files)
    return accepted


async def _charged(request: Request, endpoint: Endpoint, asked: Accepting, terms: Terms, parts: Parts) -> Accepted:
    work, who, admission, accepted = asked.order.work, caller(request), Admission(parts.keys), None
    # what was accepted before costs its key nothing and is never too much
    if (known := await parts.ledger.repeated(work, terms)) is not None:
        return known
    await admission.charge(who, work.spec)
    try:
        accepted = await parts.ledger.submit(work, endpoint.app, terms)
    finally:
        if accepted is None or accepted.repeated:
            await admission.give_back(who, work.spec)
    return accepted
