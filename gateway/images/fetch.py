"""Fetching what a client points at: public addresses only, in bounded time and bytes."""

import asyncio
import re
import socket
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message
from types import MappingProxyType
from typing import Protocol
from urllib.parse import unquote

import httpx2

from gateway.errors import ModelError, location
from gateway.images.ssrf import RefusedAddress, RefusedUrl, Resolve, check_url, guarded_client, resolve_name

FORGET_S = 20.0  # after which a server that did not answer is asked again
MOST = 1000  # servers that are remembered


@dataclass(slots=True)
class _Server:
    answered_at: float = float("-inf")
    silent_at: float | None = None  # None from its next answer on


class SilentServers:
    """Remembers of the `most` servers that were asked last when they answered, or did not.

    Servers are named by origin: scheme, host and port. clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = MOST) -> None:
        self._clock, self._most = clock, most
        self._servers: OrderedDict[str, _Server] = OrderedDict()

    def now(self) -> float:
        return self._clock()

    def is_silent(self, origin: str) -> bool:
        """Whether the server did not answer within the last `FORGET_S`, nor since."""
        server = self._servers.get(origin)
        return server is not None and server.silent_at is not None and self._clock() - server.silent_at < FORGET_S

    def answered(self, origin: str) -> None:
        """It did, whatever it said."""
        server = self._known(origin)
        server.answered_at, server.silent_at = self._clock(), None

    def unanswered(self, origin: str, asked_at: float) -> None:
        """What was asked at `asked_at` was given up. A server that answered another call since is not silent."""
        server = self._known(origin)
        if server.answered_at < asked_at:
            server.silent_at = self._clock()

    def _known(self, origin: str) -> _Server:
        server = self._servers.setdefault(origin, _Server())
        self._servers.move_to_end(origin)
        if len(self._servers) > self._most:
            self._servers.popitem(last=False)
        return server


# No compression, so that the byte cap counts what arrives; some hosts answer 403 to whoever does not begin as browsers.
_HEADERS: Mapping[str, str] = {
    "accept": "*/*",
    "accept-encoding": "identity",
    "user-agent": "Mozilla/5.0 (compatible; fooocus-serve)",
}
_PIECE = 1024 * 1024
_LONGEST_NAME = 100  # characters of a file's name that are repeated
_LONGEST_ETAG = 1000  # characters of one that is sent again; headers of some kilobytes are refused by servers
_UNTOLD = re.compile(r"[^\w .()+\[\]-]")  # what a name is told without

NO_TOKENS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """timeout_s: for the whole fetch with its redirects. allow_loopback: for examples and tests on one machine.

    grace_s, least_bytes_per_s: how far a file may fall behind that rate while it arrives, and so how long its server
    may be silent; a rate of 0 asks for none.
    """

    timeout_s: float = 20.0
    redirects: int = 10
    allow_loopback: bool = False
    grace_s: float = 15.0
    least_bytes_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Saved:
    """What was written. size in bytes. name: of the file, as its server or its address tells it, fit to be shown.

    etag: by which its server knows it, where it says one.
    """

    size: int
    name: str
    etag: str | None = None


class DownloadFault(ModelError):
    """A file that could not be had. answered: the status of its server, where that was none of success.

    passing: whether the same may succeed later: the server is away, slow or at fault itself.
    """

    def __init__(self, why: str, field: str, *, answered: int | None = None, passing: bool = False) -> None:
        super().__init__("file_download_error", f"The file could not be downloaded: {why}.", location(field))
        self.answered, self.passing = answered, passing


class NotWritten(RuntimeError):
    """A fetched file could not be written: a full disk is no fault of the connection, nor the client's."""


class Writes(Protocol):
    """What a fetched file is written to."""

    def write(self, piece: bytes, /) -> int: ...


class Fetcher:
    """Fetches files that clients name by address. Holds no connection between fetches."""

    def __init__(
        self,
        limits: FetchLimits,
        resolve: Resolve = resolve_name,
        tokens: Mapping[str, str] = NO_TOKENS,
        silent: SilentServers | None = None,
    ) -> None:
        """tokens: bearer tokens by origin (`https://host`, with a port that is not the usual one), each sent to that
        origin alone, whatever redirects to it or from it. silent: servers that are not asked, for they did not answer;
        None asks each every time."""
        self._limits, self._resolve, self._tokens, self._silent = limits, resolve, tokens, silent
        # Reading the certificates is slow, so it is done once. An operator's SSL_CERT_FILE counts, proxies do not.
        self._tls = httpx2.create_ssl_context()

    async def fetch(self, url: str, max_bytes: int, field: str = "") -> bytes:
        """The content behind the http(s) address `url`, at most `max_bytes` of it.

        field: where in the client's input the address stands, dotted. Raises ModelError `file_download_error`, or
        `file_too_large`; the messages name no address of ours and no server inside.
        """
        content = bytearray()
        async with self._opened(url, field) as arriving:
            async for part in arriving.parts(max_bytes, field):
                content += part
        return bytes(content)

    async def save(
        self, url: str, file: Writes, max_bytes: int, field: str = "", etag: str | None = None
    ) -> Saved | None:
        """Write to `file` what `fetch` would return, for what is too large for memory.

        etag: of what is there already; None is returned where the server says that it is still the same. After an error
        the file holds what had arrived: write to one that can be thrown away. Raises what `fetch` raises, and
        NotWritten.
        """
        written = 0
        piece = bytearray()
        async with self._opened(url, field, etag) as arriving:
            response = arriving.response
            if etag is not None and response.status_code == 304:
                return None
            async for part in arriving.parts(max_bytes, field):
                piece += part
                if len(piece) >= _PIECE:
                    written += await _write(file, piece)
        return Saved(written + await _write(file, piece), _name(response), _etag(response))

    @asynccontextmanager
    async def _opened(self, url: str, field: str, etag: str | None = None) -> AsyncIterator["_Arriving"]:
        limits = self._limits
        end = asyncio.get_running_loop().time() + limits.timeout_s
        first_s = min(limits.grace_s, limits.timeout_s) if limits.least_bytes_per_s else limits.timeout_s
        asked: list[tuple[str, float]] = []
        try:
            async with (
                asyncio.timeout(first_s) as limit,
                guarded_client(self._tls, self._resolve, limits.allow_loopback) as client,
                self._followed(client, url, field, etag, asked) as response,
            ):
                yield _Arriving(response, limit, limits, end)
        except (TimeoutError, httpx2.TimeoutException) as error:
            self._note(asked, first_s)
            raise DownloadFault("it did not arrive in time", field, passing=True) from error
        except RefusedAddress as error:
            raise DownloadFault("its address is not a public one", field) from error
        except RefusedUrl as error:
            raise DownloadFault(str(error), field) from error
        except socket.gaierror as error:
            raise DownloadFault("its host is unknown", field, passing=True) from error
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise DownloadFault("its address is not valid", field) from error
        except (httpx2.HTTPError, OSError) as error:
            raise DownloadFault("the connection failed", field, passing=True) from error

    @asynccontextmanager
    async def _followed(
        self, client: httpx2.AsyncClient, url: str, field: str, etag: str | None, asked: list[tuple[str, float]]
    ) -> AsyncIterator[httpx2.Response]:
        target = httpx2.URL(url)
        for _ in range(self._limits.redirects + 1):
            # before the client, which makes a header of credentials and knows some schemes more
            check_url(target)
            origin = origin_of(target)
            if self._silent is not None:
                if self._silent.is_silent(origin):
                    raise DownloadFault("its server does not answer", field, passing=True)
                asked.append((origin, self._silent.now()))
            # Cookies of one hop are nothing to the next.
            client.cookies.clear()
            async with client.stream("GET", target, headers=self._headers(target, etag)) as response:
                if self._silent is not None:
                    self._silent.answered(origin)
                if not response.has_redirect_location:
                    yield response
                    return
                target = target.join(response.headers["location"])
        raise DownloadFault("too many redirects", field)

    def _note(self, asked: Sequence[tuple[str, float]], first_s: float) -> None:
        """Remember that the last of the servers asked did not answer, where it had half of the time or more to do so:
        else any address could spend the time and redirect to a server that others need."""
        if self._silent is None or not asked:
            return
        origin, at = asked[-1]
        if self._silent.now() - at >= first_s / 2:
            self._silent.unanswered(origin, at)

    def _headers(self, target: httpx2.URL, etag: str | None) -> dict[str, str]:
        headers = {**_HEADERS}
        if etag is not None:
            headers["if-none-match"] = etag
        token = self._tokens.get(origin_of(target))
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return headers


@dataclass(frozen=True, slots=True)
class _Arriving:
    """An answer that has begun. limit: of the time until more must have arrived; it is moved on, up to `end`."""

    response: httpx2.Response
    limit: asyncio.Timeout
    limits: FetchLimits
    end: float

    async def parts(self, max_bytes: int, field: str) -> AsyncIterator[bytes]:
        response, limits = self.response, self.limits
        if not response.is_success:
            status = response.status_code
            raise DownloadFault(f"its server answered {status}", field, answered=status, passing=status >= 500)
        declared = response.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > max_bytes:
            raise too_large(max_bytes, field)
        begun, arrived = asyncio.get_running_loop().time(), 0
        # Raw: what a server compressed against our wish is not unpacked.
        async for part in response.aiter_raw():
            arrived += len(part)
            if arrived > max_bytes:
                raise too_large(max_bytes, field)
            if limits.least_bytes_per_s:
                behind = begun + limits.grace_s + arrived / limits.least_bytes_per_s
                self.limit.reschedule(min(self.end, behind))
            yield part


def origin_of(url: httpx2.URL) -> str:
    """Scheme, host and port as `tokens` name them."""
    port = "" if url.port is None else f":{url.port}"
    return f"{url.scheme}://{url.host.lower()}{port}"


def _name(response: httpx2.Response) -> str:
    told = Message()
    told["content-disposition"] = response.headers.get("content-disposition", "")
    last = unquote(response.url.path.rpartition("/")[2])
    name = (told.get_filename() or last).replace("\\", "/").rpartition("/")[2]
    return _UNTOLD.sub("", name)[:_LONGEST_NAME]


def _etag(response: httpx2.Response) -> str | None:
    """None also for one that could not be sent back: a header that we send is plain ASCII."""
    told: str = response.headers.get("etag", "")
    fit = told.isascii() and told.isprintable() and len(told) <= _LONGEST_ETAG
    return told if told and fit else None


async def _write(file: Writes, piece: bytearray) -> int:
    try:
        await asyncio.to_thread(file.write, bytes(piece))
    except OSError as error:
        raise NotWritten("a fetched file could not be written") from error
    size = len(piece)
    piece.clear()
    return size


def too_large(max_bytes: int, field: str) -> ModelError:
    """The error for a file of more than `max_bytes`."""
    msg = f"The file is larger than the {max_bytes} bytes that are accepted."
    return ModelError("file_too_large", msg, location(field), ctx={"max_size": max_bytes})
