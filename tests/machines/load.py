"""What clients ask of the machines, by fal's own client, and what they are told: some at once, as many as there are."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import fal_client
import httpx
import pytest
from httpx_sse import SSEError

from tests.clients.guard import Guard
from tests.clients.pointing import point

Way = Literal["queue", "run", "subscribe", "stream", "cancel"]
Priority = Literal["normal", "low"]

# fal's client asks ten times a second unless told; a poll costs 25 ms of the cores that all machines here share
POLLED_S = 10.0
AGAIN_S = 1.0
RUNS = 8  # sync calls that are open at once


@dataclass(frozen=True)
class Ask:
    """One request, and how it is asked for. after_s: when, since the first. priority, webhook: of one in the queue."""

    endpoint: str
    arguments: Mapping[str, Any]
    way: Way = "queue"
    after_s: float = 0.0
    priority: Priority = "normal"
    webhook: str | None = None


@dataclass
class Told:
    """What came of it. body: the answer. refused: the status and the error type that ended it instead. broken: how
    often a connection ended, or the service said to ask again. Times in seconds since 1970."""

    ask: Ask
    request_id: str = ""
    body: Any = None
    refused: tuple[int, str] | None = None
    retryable: bool = False
    broken: int = 0
    submitted_at: float = 0.0
    ended_at: float = 0.0

    @property
    def seed(self) -> int | None:
        return self.body.get("seed") if isinstance(self.body, dict) else None


class Load:
    """A client with a key. told: what has come of each request so far; refusals: of each kind of answer that was
    none, how many."""

    def __init__(self, key: str, patience_s: float) -> None:
        self._key, self._patience_s = key, patience_s
        self.told: list[Told] = []
        self.refusals: Counter[str] = Counter()

    async def of(self, asks: Sequence[Ask]) -> list[Told]:
        """All of them, each until it has ended. Raises AssertionError where one does not in time."""
        client = fal_client.AsyncClient(key=self._key)
        self.told = [Told(ask) for ask in asks]
        (await client._client).event_hooks["response"].append(self._note)
        runs, begun = asyncio.Semaphore(RUNS), time.monotonic()
        try:
            async with asyncio.timeout(self._patience_s):
                await asyncio.gather(*(self._follow(client, told, runs, begun) for told in self.told))
        except TimeoutError:
            open_ = [told.request_id for told in self.told if not told.ended_at]
            said = f"{len(open_)} of {len(asks)} have not ended: {open_[:5]}; refusals: {self.refusals}"
            raise AssertionError(said) from None
        finally:
            await (await client._client).aclose()
        return self.told

    async def _note(self, answer: httpx.Response) -> None:
        if answer.is_error:
            body = (await answer.aread())[:200].decode(errors="replace")
            self.refusals[f"{answer.request.method} {answer.status_code} {body}"] += 1

    async def _follow(self, client: fal_client.AsyncClient, told: Told, runs: asyncio.Semaphore, begun: float) -> None:
        await asyncio.sleep(max(0.0, begun + told.ask.after_s - time.monotonic()))
        try:
            if told.ask.way in ("queue", "cancel"):
                await self._queued(client, told)
            else:
                async with runs:
                    await self._called(client, told)
        except fal_client.client.FalClientHTTPError as error:
            told.refused = (error.status_code, str(error.error_type))
            told.retryable = error.response_headers.get("x-fal-retryable") == "true"
        except SSEError:  # an answer that is no stream
            told.refused = (0, f"not streamed: {self.refusals}")
        told.ended_at = time.time()

    async def _called(self, client: fal_client.AsyncClient, told: Told) -> None:
        """One call that is open until the end."""
        told.submitted_at = time.time()
        given = dict(told.ask.arguments)
        if told.ask.way == "run":
            told.body = await client.run(told.ask.endpoint, given)
        elif told.ask.way == "subscribe":

            def noted(request_id: str) -> None:
                told.request_id = request_id

            told.body = await client.subscribe(told.ask.endpoint, given, interval=POLLED_S, on_enqueue=noted)
        else:
            async for event in client.stream(told.ask.endpoint, given):
                told.body = event

    async def _queued(self, client: fal_client.AsyncClient, told: Told) -> None:
        told.submitted_at = time.time()
        ask = told.ask
        handle = await client.submit(ask.endpoint, dict(ask.arguments), priority=ask.priority, webhook_url=ask.webhook)
        told.request_id = handle.request_id
        if told.ask.way == "cancel":
            with suppress(fal_client.client.FalClientHTTPError):  # where it has ended before
                await handle.cancel()
        while told.body is None:
            try:
                told.body = await handle.get(interval=POLLED_S)
            except httpx.TransportError:
                told.broken += 1
                await asyncio.sleep(AGAIN_S)
            except fal_client.client.FalClientHTTPError as error:
                if not _is_for_now(error):
                    raise
                told.broken += 1
                await asyncio.sleep(AGAIN_S)


def _is_for_now(error: fal_client.client.FalClientHTTPError) -> bool:
    """Whether it tells of the poll and not of the request: a proxy without replicas, or a store that is away."""
    ours = "x-fal-request-id" in error.response_headers
    return error.status_code in (500, 502, 503, 504) and (not ours or error.error_type == "runner_connection_error")


@contextmanager
def pointed(address: str, guard: Guard) -> Iterator[None]:
    """fal's client calls `address` meanwhile and nothing beyond loopback."""
    with pytest.MonkeyPatch.context() as patch, guard.watching():
        point(address, patch)
        yield
