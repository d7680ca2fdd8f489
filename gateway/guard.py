"""The one way out: connections to what clients name, pinned to an address that was checked."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ssl import SSLContext

import httpx2

from gateway.addresses import RefusedUrl, check_address, check_port, literal

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_PORTS: Mapping[str, int] = {"http": 80, "https": 443}


async def resolve_name(host: str, port: int) -> list[str]:
    """The addresses of `host`, in the system's order of preference, each once."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return _each_once(found)


class NameResolver:
    """`resolve_name` on threads of its own: names that are slow to resolve hold up nothing but each other."""

    def __init__(self, threads: int = 16) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="resolve")

    async def __call__(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._pool, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        return _each_once(found)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def check_url(url: httpx2.URL | str) -> tuple[str, int]:
    """The host (without brackets, names in ASCII) and port of an http(s) URL, before anything is resolved.

    Raises RefusedUrl for another scheme, credentials, a malformed host and a port of another service; RefusedAddress
    for odd spellings of an address. The messages repeat nothing of the URL.
    """
    try:
        url = httpx2.URL(url)
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise RefusedUrl("its address is not valid") from error
    usual = _PORTS.get(url.scheme)
    if usual is None or not url.host or url.userinfo:
        raise RefusedUrl("only http and https addresses without credentials can be used")
    # as sent: with a name's international letters in their ASCII form
    host = url.raw_host.decode("ascii")
    literal(host)
    port = usual if url.port is None else url.port
    check_port(port)
    return host, port


class PinnedTransport(httpx2.AsyncBaseTransport):
    """Connects each request to an address that was checked, never to a name that could resolve anew.

    Every address of a name is checked, and one that is refused refuses all. The request's Host header and the name
    that TLS verifies stay those of the URL. Follows no redirects: each hop is a request of its own, and so checked.
    Raises RefusedUrl, RefusedAddress, socket.gaierror and what the inner transport raises.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, resolve: Resolve, allow_loopback: bool) -> None:
        self._inner, self._resolve, self._allow_loopback = inner, resolve, allow_loopback

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        host, port = check_url(request.url)
        spelt = literal(host)
        addresses = [host] if spelt is not None else await self._resolve(host, port)
        for address in addresses:
            check_address(address, self._allow_loopback)
        failure: httpx2.TransportError = httpx2.ConnectError("no address")
        for address in addresses:
            pinned = httpx2.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return await self._inner.handle_async_request(pinned)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def aclose(self) -> None:
        await self._inner.aclose()


def guarded_client(
    tls: SSLContext, resolve: Resolve, allow_loopback: bool, connections: int = 100
) -> httpx2.AsyncClient:
    """A client that reaches public addresses only; it knows no proxies, follows no redirects and has no timeout.

    tls: from `httpx2.create_ssl_context()`, which is slow. connections: at once.
    """
    # A connection is never used again: the pool knows it by its address and would give it to another name of that
    # address, whose certificate nobody has verified.
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=0)
    inner = httpx2.AsyncHTTPTransport(verify=tls, trust_env=False, limits=limits)
    transport = PinnedTransport(inner, resolve, allow_loopback)
    return httpx2.AsyncClient(transport=transport, trust_env=False, timeout=None, follow_redirects=False)


def _each_once(found: Sequence[tuple[object, object, object, object, tuple[object, ...]]]) -> list[str]:
    return list(dict.fromkeys(str(address[4][0]) for address in found))
