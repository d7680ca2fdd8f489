"""Sending webhooks: many at once, a few per receiver, through the guard."""

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, Generic, Protocol, TypeVar

import httpx2

from gateway.images.ssrf import NameResolver, RefusedAddress, RefusedUrl, Resolve, check_url, guarded_client
from gateway.ledger.models import Answer
from gateway.monitoring.contract import WEBHOOK_ATTEMPTS
from gateway.monitoring.monitor import Monitor, NoMonitor
from gateway.monitoring.trace import Trace, follow
from gateway.webhooks.signing import KeyRing, signed_headers


class Delivery(Protocol):
    """One attempt (from 1) at the webhook of a request. key: whose request it is; empty where the service is open."""

    @property
    def request_id(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def answer(self) -> Answer: ...
    @property
    def attempt(self) -> int: ...


D = TypeVar("D", bound=Delivery)


class Outbox(Protocol[D]):
    """The durable store of what is owed. A claimed delivery is held for its lease; one that is lost is sent again."""

    async def claim(self, owner: str, count: int, lease_s: float) -> Sequence[D]:
        """Take up to `count` deliveries whose time has come, longest due first; each counts as an attempt."""

    async def delivered(self, held: D) -> bool:
        """The receiver has taken it. False when the delivery was lost to another sender."""

    async def failed(self, held: D, error: str, retry_s: float) -> object:
        """The attempt failed: another one in `retry_s` seconds, or none after the last."""

    async def postpone(self, held: Sequence[D], delay_s: float) -> None:
        """Put deliveries back that were not tried, due in `delay_s` seconds; the claim was no attempt."""


NOT_JSON = (
    "Response payload is not JSON serializable. Either return a JSON serializable object or use the queue endpoint "
    "to retrieve the response."
)


def webhook_body(request_id: str, answer: Answer) -> bytes:
    """The JSON that is sent, and signed, byte for byte. answer: what the result route replays."""
    said: dict[str, Any] = {"request_id": request_id, "gateway_request_id": request_id}
    if answer.status < 400:
        said |= {"status": "OK", "payload": answer.body}
    else:
        said |= {"status": "ERROR", "error": f"Invalid status code: {answer.status}", "payload": answer.body}
    try:
        return json.dumps(said, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError):
        return json.dumps({**said, "payload": None, "payload_error": NOT_JSON}, separators=(",", ":")).encode()


ATTEMPTS = 11  # the first and ten retries
TIMEOUT_S = 15.0
FIRST_S = 5.0
JITTER = 0.25


def retry_delay(attempt: int, luck: float) -> float | None:
    """Seconds from the end of failed attempt number `attempt` (from 1) to the next; None after the last.

    5, 10, 20, ... 2560 s, each longer or shorter by up to a quarter, by `luck` from 0 to 1, so that what failed
    together does not come back together. With the attempts' own timeouts it stays within two hours.
    """
    if attempt >= ATTEMPTS:
        return None
    return FIRST_S * 2.0 ** (attempt - 1) * (1 + JITTER * (2 * luck - 1))


OPEN_USER = "anonymous"  # fal's verifier refuses an empty user id

LEAST_PAUSE_S = 0.05  # between two looks, however often it is woken: most ends owe no webhook

logger = logging.getLogger("fooocus.webhooks")


@dataclass(frozen=True, slots=True)
class SendingLimits:
    """at_once: deliveries held by this sender. per_host: of these, under way to one host; waiting: behind those.

    timeout_s: of an attempt, from the name's resolution to the answer's head. lease_s: above what waiting and sending
    can take together, (waiting / per_host + 1) x timeout_s. tick_s: pause between looks into an empty outbox,
    unless it is woken, as by every end. again_s: until what found the queue of a host full is looked for again, where
    that moves on. allow_loopback: for tests and examples on one machine.
    """

    at_once: int = 256
    per_host: int = 8
    waiting: int = 16
    timeout_s: float = TIMEOUT_S
    lease_s: float = 60.0
    tick_s: float = 5.0
    again_s: float = 2.0
    allow_loopback: bool = False


@dataclass(slots=True)
class _HostQueue(Generic[D]):
    """What this sender holds for one host. healthy: its last attempt was taken."""

    running: int = 0
    waiting: deque[D] = field(default_factory=deque)
    healthy: bool = True


class Sender(Generic[D]):
    """Sends what is due until it is stopped. A receiver that is slow costs its own host only.

    What the queue of a host cannot hold goes back into the outbox untried, so that others behind it are reached.
    resolve: None for the system's resolver on threads of this sender. monitor: counts attempts.
    """

    def __init__(
        self,
        outbox: Outbox[D],
        ring: KeyRing,
        limits: SendingLimits,
        owner: str,
        resolve: Resolve | None = None,
        random: Random | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        self._monitor = monitor or NoMonitor()
        self._outbox, self._ring, self._limits, self._owner = outbox, ring, limits, owner
        self._resolve = resolve
        self._random = random or Random()
        self._hosts: dict[str, _HostQueue[D]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping, self._freed = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Until `stop`; then what is under way is finished, and what waits goes back into the outbox."""
        names = None if self._resolve else NameResolver()
        resolve = self._resolve or names
        assert resolve is not None  # noqa: S101 (one of the two)
        tls = await asyncio.to_thread(httpx2.create_ssl_context)
        try:
            async with guarded_client(tls, resolve, self._limits.allow_loopback, self._limits.at_once) as client:
                while not self._stopping.is_set():
                    self._freed.clear()  # before the look, so that what comes meanwhile is looked for again
                    if not await self._look(client):
                        await self._pause()
                waiting = [held for queue in self._hosts.values() for held in queue.waiting]
                for queue in self._hosts.values():
                    queue.waiting.clear()
                await self._postpone(waiting, 0.0)
                await asyncio.gather(*self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            if names is not None:
                names.close()

    def wake(self) -> None:
        """Look now for what is due."""
        self._freed.set()

    def stop(self) -> None:
        self._stopping.set()
        self._freed.set()

    async def _look(self, client: httpx2.AsyncClient) -> bool:
        """Take what is due and fits; whether more may be due that was hidden behind it."""
        room = self._limits.at_once - sum(queue.running + len(queue.waiting) for queue in self._hosts.values())
        if room <= 0:
            return False
        try:
            claimed = await self._outbox.claim(self._owner, room, self._limits.lease_s)
        except Exception:
            logger.exception("the outbox did not answer")
            return False
        later: dict[float, list[D]] = {}
        for held in claimed:
            host = _host(held.url)
            queue = self._hosts.setdefault(host, _HostQueue())
            if queue.running < self._limits.per_host:
                self._start(client, host, queue, held)
            elif queue.healthy and len(queue.waiting) < self._limits.waiting:
                queue.waiting.append(held)
            else:
                # a healthy one moves on in a moment, another one when its attempts have timed out
                later.setdefault(self._limits.again_s if queue.healthy else self._limits.timeout_s, []).append(held)
        for delay_s, untried in later.items():
            await self._postpone(untried, delay_s)
        return bool(later) and len(claimed) == room

    def _start(self, client: httpx2.AsyncClient, host: str, queue: _HostQueue[D], held: D) -> None:
        queue.running += 1
        task = asyncio.create_task(self._send(client, host, queue, held))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, client: httpx2.AsyncClient, host: str, queue: _HostQueue[D], held: D) -> None:
        follow(Trace(held.request_id, key=held.key))
        try:
            error = await self._attempt(client, held)
            queue.healthy = error is None
            self._monitor.add(WEBHOOK_ATTEMPTS, result="delivered" if error is None else "failed")
            try:
                if error is None:
                    await self._outbox.delivered(held)
                else:
                    logger.info("webhook of request %s, attempt %s: %s", held.request_id, held.attempt, error)
                    delay_s = retry_delay(held.attempt, self._random.random())
                    await self._outbox.failed(held, error, delay_s or 0.0)
            except Exception:
                # its lease runs out, and it is sent again
                logger.exception("the outbox did not note the webhook of request %s", held.request_id)
        finally:
            queue.running -= 1
            await self._next(client, host, queue)
            self._freed.set()

    async def _next(self, client: httpx2.AsyncClient, host: str, queue: _HostQueue[D]) -> None:
        if not queue.healthy and queue.waiting:
            untried = list(queue.waiting)
            queue.waiting.clear()
            await self._postpone(untried, self._limits.timeout_s)
        if queue.waiting:
            self._start(client, host, queue, queue.waiting.popleft())
        elif queue.running == 0 and self._hosts.get(host) is queue:
            del self._hosts[host]

    async def _postpone(self, untried: Sequence[D], delay_s: float) -> None:
        if not untried:
            return
        try:
            await self._outbox.postpone(untried, delay_s)
        except Exception:
            logger.exception("the outbox did not take %s webhooks back; their leases run out", len(untried))

    async def _attempt(self, client: httpx2.AsyncClient, held: D) -> str | None:
        """Why the attempt failed, in words without secrets; None where the receiver took it."""
        try:
            body = webhook_body(held.request_id, held.answer)
            key = await asyncio.to_thread(self._ring.signing)
            headers = {
                "content-type": "application/json",
                "user-agent": "fooocus-serve",
                **signed_headers(key, held.request_id, held.key or OPEN_USER, body, time.time()),
            }
            async with asyncio.timeout(self._limits.timeout_s):
                check_url(held.url)
                async with client.stream("POST", held.url, content=body, headers=headers) as response:
                    # what it says besides is of no interest, and may be endless
                    taken = 200 <= response.status_code < 300
                    return None if taken else f"the receiver answered {response.status_code}"
        except TimeoutError:
            return f"no answer within {self._limits.timeout_s:g} s"
        except RefusedAddress:
            return "the address is not a public one"
        except RefusedUrl as refused:
            return f"the address cannot be used: {refused}"
        except (httpx2.HTTPError, OSError, UnicodeError):
            return "the connection failed"
        except Exception:
            logger.exception("the webhook of request %s could not be sent", held.request_id)
            return "an internal error"

    async def _pause(self) -> None:
        for event, most_s in ((self._stopping, LEAST_PAUSE_S), (self._freed, self._limits.tick_s)):
            with suppress(TimeoutError):
                async with asyncio.timeout(most_s):
                    await event.wait()


def _host(url: str) -> str:
    try:
        return check_url(url)[0].lower()
    except ValueError:
        return ""
