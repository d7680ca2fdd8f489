"""The dispatcher as the gateway reaches it on Serve."""

from collections.abc import Mapping, Sequence

from deployments.leader import Handle, LeaderHandle
from gateway.worker.capacity import Room
from gateway.worker.events import POLL_S, Changed, News, Submitted
from gateway.worker.overview import Overview

ANSWER_S = POLL_S + 2.0


class DispatcherHandle:
    """`gateway.worker.events.DispatcherLink` over a handle."""

    def __init__(self, dispatcher: Handle) -> None:
        self._leader = LeaderHandle(dispatcher, ANSWER_S)

    async def poll(
        self, listener: str, number: int, runs: Mapping[str, bool], submitted: Sequence[Submitted] = ()
    ) -> News:
        news: News = await self._leader.ask("poll", listener, number, runs, submitted)
        return news

    async def watch(self, listener: str) -> Changed:
        changed: Changed = await self._leader.ask("watch", listener)
        return changed

    async def wake(self) -> None:
        await self._leader.ask("wake")

    async def hear(self, request_id: str) -> None:
        await self._leader.ask("hear", request_id)

    async def room(self) -> Room:
        room: Room = await self._leader.ask("room")
        return room

    async def overview(self) -> Overview:
        overview: Overview = await self._leader.ask("overview")
        return overview
