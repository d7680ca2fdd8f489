"""The body of a call: piece by piece within a size and a time, as bytes, and as what a model says."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import PlatformError, ServiceError
from gateway.http.auth import caller
from gateway.rate_limited_log import RateLimitedLog
from gateway.settings import GatewaySettings

DRAINED = (
    3  # times the cap: how much more of a body that is too large is still read, so that its sender hears the answer
)
MOST_DRAINED = 16 * 1024 * 1024  # bytes
PROMPT_S = 0.25  # how long a body may be begun, without a place, before its first bytes come; many are whole with them

_BODIES = "fooocus.bodies"

logger = logging.getLogger("fooocus.gateway")


class TooSlow(PlatformError):
    """A body that did not arrive in time (408). Whoever stands in front drops what may still come of it."""

    def __init__(self) -> None:
        super().__init__("bad_request", "The body did not arrive in time; send it again.", status=408)

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "connection": "close"}


class Body:
    """One body that arrives; waiting for its sender is what counts, not what is done with the pieces meanwhile.

    key: whose it is. grace_s: how far it may fall behind the least rate. timeout_s: how long it may be waited for in
    all.
    """

    def __init__(self, key: str, grace_s: float, bytes_per_s: float, timeout_s: float) -> None:
        self.key = key
        self._grace_s, self._bytes_per_s, self._left_s = grace_s, bytes_per_s, timeout_s
        self._behind_s = 0.0
        self._waiting: tuple[float, asyncio.Timeout] | None = None  # since when, and what ends it
        self._ended = False

    def behind_s(self) -> float:
        """Seconds behind the least rate. A sender that was faster than it has saved up nothing."""
        return self._behind_s + (0.0 if self._waiting is None else _now() - self._waiting[0])

    def end(self) -> None:
        """Let the wait for the next message, now or later, raise TooSlow."""
        self._ended = True
        if self._waiting is not None and not self._waiting[1].expired():
            self._waiting[1].reschedule(_now())

    async def next(self, receive: Receive) -> Message:
        """The next message of the body. Raises TooSlow, or PlatformError (499) when its sender has left."""
        if self._ended:
            raise TooSlow
        since = _now()
        try:
            async with asyncio.timeout(min(self._grace_s - self._behind_s, self._left_s)) as waiting:
                self._waiting = since, waiting
                message = await _received(receive)
        except TimeoutError:
            raise TooSlow from None
        finally:
            self._waiting = None
            waited_s = _now() - since
            self._left_s -= waited_s
        self._behind_s = max(0.0, self._behind_s + waited_s - len(message.get("body", b"")) / self._bytes_per_s)
        return message


class Bodies:
    """The bodies that arrive in this replica: at most `most()` have a place, half as many of one key.

    Half as many again may have just begun. When there is no place, nobody is refused: the body that is furthest behind
    the least rate ends. A body that only holds its place is further behind than one that arrives, and so than every
    newcomer. It ends among those of the key that has the most, so that a key never costs another one a place. On an
    open service all callers are one key.
    """

    def __init__(self, settings: GatewaySettings, most: Callable[[], int]) -> None:
        self._settings, self._most = settings, most
        self._begun: set[Body] = set()  # of which nothing has come, for PROMPT_S
        self._under_way: set[Body] = set()
        self._log = RateLimitedLog(logger)  # for whoever sends bodies decides how many others end

    async def chunks(
        self, request: Request, max_bytes: int, key: str | None = None, timeout_s: float | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The body in pieces, none of them empty; to be closed by who reads it.

        key: whose body it is, where that is not the caller. timeout_s: `body_timeout_s` where none is given. Raises
        PlatformError: 413 above `max_bytes`, 408 (`TooSlow`), 499 when the client leaves before the end.
        """
        settings = self._settings
        too_large = PlatformError("bad_request", f"The body is larger than {max_bytes} bytes.", status=413)
        most_read = max_bytes + min(DRAINED * max_bytes, MOST_DRAINED)
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > most_read:
            raise too_large
        body = Body(
            caller(request).key if key is None else key,
            settings.body_grace_s,
            settings.body_least_bytes_per_s,
            settings.body_timeout_s if timeout_s is None else timeout_s,
        )
        late = asyncio.get_running_loop().call_later(PROMPT_S, self._place, body)
        self._begun.add(body)
        if len(self._begun) > self._most() // 2:
            self._place(body)
        size, more = 0, True
        try:
            while more:
                message = await body.next(request.receive)
                chunk, more = message.get("body", b""), message.get("more_body", False)
                size += len(chunk)
                if size > most_read:
                    raise too_large
                if more:
                    self._place(body)
                else:
                    self._leave(body)
                if chunk and size <= max_bytes:
                    yield chunk
        finally:
            late.cancel()
            self._leave(body)
        if size > max_bytes:
            raise too_large

    def _place(self, body: Body) -> None:
        """Give a body that has begun its place, if it has none."""
        if body not in self._begun:
            return
        self._begun.discard(body)
        if rivals := self._rivals(body):
            slowest = max(rivals, key=Body.behind_s)
            self._log.info("ended the slowest of %d bodies that arrive", len(self._under_way))
            self._under_way.discard(slowest)
            slowest.end()
        self._under_way.add(body)

    def _leave(self, body: Body) -> None:
        self._begun.discard(body)
        self._under_way.discard(body)

    def _rivals(self, body: Body) -> list[Body]:
        """Of which bodies one must end so that `body` has a place; none where there is one."""
        of_key = [other for other in self._under_way if other.key == body.key]
        if body.key and len(of_key) >= self._most() // 2:
            return of_key
        if len(self._under_way) < self._most():
            return []
        keys = Counter([*(other.key for other in self._under_way), body.key])
        ((crowd, _),) = keys.most_common(1)
        return [other for other in self._under_way if other.key == crowd]


class Receiving:
    """Lets the routes behind it receive bodies."""

    def __init__(self, app: ASGIApp, bodies: Bodies) -> None:
        self._app, self._bodies = app, bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, _BODIES: self._bodies}, receive, send)


def chunks(
    request: Request, max_bytes: int, key: str | None = None, timeout_s: float | None = None
) -> AsyncGenerator[bytes, None]:
    """`Bodies.chunks` of the replica that has this call."""
    bodies: Bodies = request.scope[_BODIES]
    return bodies.chunks(request, max_bytes, key, timeout_s)


async def _received(receive: Receive) -> Message:
    try:
        message = await receive()
    except Exception as fault:
        # a server between us and the client may lose it before it can say so
        logger.info("a client is lost while its body arrives: %s", type(fault).__name__)
        message = {"type": "http.disconnect"}
    if message["type"] == "http.disconnect":
        raise PlatformError("client_disconnected", "The client left before its body had arrived.")
    return message


def _now() -> float:
    return asyncio.get_running_loop().time()


Asked = TypeVar("Asked", bound=BaseModel)

SMALL = 10_000  # bytes of a body that holds a few words
MOST_VALUES = 20_000  # values of a body; parsing one costs fifty times what a byte of a long text does

_GZIP = b"\x1f\x8b"
_FORMS = frozenset({"multipart/form-data", "application/x-www-form-urlencoded"})
_MAX_SHOWN = 40  # characters of a header that are repeated


async def body_bytes(request: Request, max_bytes: int, key: str | None = None) -> bytes:
    """The whole body. key: whose it is, where that is not the caller. Raises PlatformError: 408, 413, 499."""
    body = bytearray()
    async with aclosing(chunks(request, max_bytes, key)) as pieces:
        async for piece in pieces:
            body += piece
    return bytes(body)


async def json_bytes(request: Request, max_bytes: int) -> bytes:
    """The whole body, which is to be read as JSON.

    Raises PlatformError: as `body_bytes`, and 413 for more values than any input has, which others would wait for.
    """
    body = await body_bytes(request, max_bytes)
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:  # commas of texts too, of which no prompt has as many
        raise PlatformError("bad_request", f"The body has more than {MOST_VALUES} values.", status=413)
    return body


async def read_body(request: Request, model: type[Asked], max_bytes: int = SMALL, key: str | None = None) -> Asked:
    """The body, a JSON object, as an instance of `model`; none at all is an empty object.

    Raises PlatformError: as `body_bytes`, and 400 for what is no JSON object, or not as the model says.
    """
    found = parsed(request, await body_bytes(request, max_bytes, key), partial(PlatformError, "bad_request"))
    if not isinstance(found, dict):
        raise PlatformError("bad_request", "The body must be a JSON object.")
    try:
        return model.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise PlatformError("bad_request", f"The body is not valid: {where}: {first['msg']}.") from None


def parsed(request: Request, body: bytes, refusal: Callable[[str], ServiceError]) -> Any:
    """A body as JSON; none at all is an empty object. refusal: made of the reason why it cannot be read."""
    if not body.strip():
        return {}
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as fault:
        raise refusal(unreadable(request, body, fault)) from None


def unreadable(request: Request, body: bytes, fault: Exception) -> str:
    """What a client is told of a body that json.loads refused with `fault`: what it is instead, where one can tell."""
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    packed = request.headers.get("content-encoding", "identity").strip().lower()
    if body.startswith(_GZIP):
        packed = "gzip"
    if packed not in ("", "identity"):
        return f"The body is compressed ({packed[:_MAX_SHOWN]}), which is not unpacked here; send it as it is."
    if declared in _FORMS or body.startswith(b"--"):
        return (
            "The body is a form; send the input as a JSON object. A picture in it is an address, that of an upload, or "
            "a data URI."
        )
    if isinstance(fault, UnicodeDecodeError):
        before = fault.object[: fault.start].decode(errors="replace")
        place = _place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        return f"The body is not encoded in UTF-8, as JSON is; send it in UTF-8. What is not begins at {place}."
    if isinstance(fault, json.JSONDecodeError):
        return f"The body is not valid JSON. {fault.msg.rstrip(': ')}: {_place(fault.lineno, fault.colno)}."
    if isinstance(fault, RecursionError):
        return "The body is not valid JSON. It has too many levels of lists and objects."
    return "The body is not valid JSON. A number in it has too many digits."  # all that is left of json's refusals


def _place(line: int, column: int) -> str:
    return f"line {line}, column {column}"
