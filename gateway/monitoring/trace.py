"""Which request a line of a log or a span is about: one context, that of the task, handed from stage to stage."""

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import Context, ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

logger = logging.getLogger("fooocus.requests")


@dataclass(frozen=True, slots=True)
class Trace:
    """One request on its way. key: the id of its API key, never the secret; empty where the service is open.
    attempt: 0 until it is claimed."""

    request_id: str
    endpoint: str = ""
    key: str = ""
    attempt: int = 0

    def fields(self) -> dict[str, str | int]:
        """What a line of a log says of it; nothing that is not known."""
        known = (("endpoint", self.endpoint), ("key", self.key), ("attempt", self.attempt))
        return {"request_id": self.request_id, **{name: value for name, value in known if value}}


_FOLLOWED: ContextVar[Trace | None] = ContextVar("fooocus.trace", default=None)


def follow(trace: Trace | None) -> None:
    """What this task does from here on, and what it starts, is about that request."""
    _FOLLOWED.set(trace)


def followed() -> Trace | None:
    """The request that this task is about."""
    return _FOLLOWED.get()


def begin_apart(work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
    """A task of what is about nobody, although it begins while a request is followed: it outlives that request."""
    return asyncio.create_task(work, name=name, context=Context())


def tell(transition: str, seconds: float, message: str, *args: object, level: int = logging.INFO) -> None:
    """Log that the request of this task has come to `transition`: its one line. seconds: what led to it took."""
    logger.log(level, message, *args, extra={"transition": transition, "seconds": round(seconds, 4)})
