"""Writes that must not be lost: tried again for a while, and finished even where their caller is cancelled."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from itertools import count
from time import monotonic
from typing import Any, TypeVar

from gateway.errors import StoreUnavailable

T = TypeVar("T")

PAUSES_S = (0.1, 0.3, 1.0, 3.0)  # between attempts at a write that must not be lost
MOST_S = 10.0  # after which no further attempt is made
AWAY_S = 600.0  # for how long what is drawn is held while the ledger is away

logger = logging.getLogger("fooocus.gateway")


async def with_retries(write: Callable[[], Awaitable[T]], away_s: float = 0.0) -> T:
    """Make a write that must not be lost, again after a failure, a few times; then its error is raised.

    away_s: for how long it is tried where the ledger is away. One that hangs is asked again only then, for it has taken
    its time.
    """
    begun = monotonic()
    for number in count():
        try:
            return await write()
        except Exception as error:
            taken_s = monotonic() - begun
            waits = isinstance(error, StoreUnavailable) and taken_s < away_s
            if not waits and (number >= len(PAUSES_S) or taken_s > MOST_S):
                raise
            logger.exception("the ledger did not take a write; it is tried again")
            await asyncio.sleep(PAUSES_S[min(number, len(PAUSES_S) - 1)])
    raise AssertionError("the numbers do not end")


async def shielded(writing: Coroutine[Any, Any, T]) -> T:
    """Await `writing` to its end even when this task is cancelled meanwhile; then the cancellation goes on."""
    task = asyncio.create_task(writing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # it is nobody's any more
        raise


async def to_its_end(writing: Coroutine[Any, Any, T]) -> T:
    """What `writing` returns or raises, even when this task is cancelled meanwhile: that comes too late and is dropped.

    For the last thing that a task does, in which somebody else may already take it for one that has nothing left to do.
    """
    task = asyncio.create_task(writing)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    return task.result()
