"""The dispatcher as the gateway reaches it on Serve."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.worker.capacity import Room
from gateway.worker.events import POLL_S, Changed, News, Submitted

ANSWER_S = POLL_S + 2.0

# A handle is untyped in Ray: its methods are those of the deployment that it stands for.
Handle = Any


class DispatcherHandle:
    """`gateway.worker.events.DispatcherLink` over a handle. A call that gets no answer is given up."""

    def __init__(self, dispatcher: Handle) -> None:
        self._dispatcher = dispatcher

    async def poll(
        self, listener: str, number: int, runs: Mapping[str, bool], submitted: Sequence[Submitted] = ()
    ) -> News:
        news: News = await _answered(self._dispatcher.poll.remote(listener, number, runs, submitted))
        return news

    async def watch(self, listener: str) -> Changed:
        changed: Changed = await _answered(self._dispatcher.watch.remote(listener))
        return changed

    async def wake(self) -> None:
        await _answered(self._dispatcher.wake.remote())

    async def hear(self, request_id: str) -> None:
        await _answered(self._dispatcher.hear.remote(request_id))

    async def room(self) -> Room:
        room: Room = await _answered(self._dispatcher.room.remote())
        return room


async def _answered(response: Handle) -> Any:
    """What the call returns. Its failure, or the end of the time that it has, cancels it."""
    try:
        return await asyncio.wait_for(response, ANSWER_S)
    except BaseException:
        response.cancel()  # or it would wait in the router for a dispatcher to come
        raise
