"""The one way out to what clients name: which addresses, hosts and ports, pinned to an address that was checked."""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from ssl import SSLContext

import httpx2

from gateway.errors import PlatformError

# RFC 4291: all global unicast there is. Leaves out what the registries do not call private, such as fec0::/10.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
# Python's own tables of what is not global differ between releases; these are refused under all of them.
_NEVER_4 = (
    IPv4Network("100.64.0.0/10"),  # carriers' inside, and one cloud's metadata service
    IPv4Network("168.63.129.16/32"),  # another cloud's metadata service, on a public address
    IPv4Network("192.0.0.0/24"),  # RFC 6890: protocol assignments, and one cloud's metadata service
    IPv4Network("192.88.99.0/24"),  # relays from IPv4 to 6to4, withdrawn by RFC 7526
)
_NEVER_6 = (
    IPv6Network("2001::/23"),  # RFC 2928: protocol assignments, Teredo among them
    IPv6Network("3fff::/20"),  # RFC 9637: documentation
)
# RFC 5214: an ISATAP interface identifier, whose last four bytes are the IPv4 address that packets are sent to.
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
# Above 1023 the ports that browsers refuse too (WHATWG Fetch, "bad port"): services that mistake a request for theirs.
_BAD_PORTS = frozenset({1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6679, 6697, 10080}) | set(
    range(6665, 6670)
)
_WEB_PORTS = frozenset({80, 443})
_FIRST_PORT, _LAST_PORT = 1024, 65535
_ALLOWED = (
    f"{', '.join(map(str, sorted(_WEB_PORTS)))} and {_FIRST_PORT} to {_LAST_PORT} are, "
    f"except for {', '.join(map(str, sorted(_BAD_PORTS)))}"
)

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*", re.IGNORECASE)
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*", re.IGNORECASE)


class RefusedAddress(ValueError):
    """An address that is not a public one."""


class RefusedUrl(ValueError):
    """A URL that is not used whatever its host resolves to. The message says why and repeats nothing of the URL."""


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that `host` spells, without brackets; None for a name, which has to be resolved.

    Raises RefusedAddress for other spellings of an address (decimal, octal, hexadecimal, short, with a final dot),
    which systems read differently, and RefusedUrl for what is no host at all.
    """
    try:
        return ip_address(host)
    except ValueError:
        pass
    if _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]):
        raise RefusedAddress("not a public address")
    if _NAME.fullmatch(host.removesuffix(".")) is None:
        raise RefusedUrl("its host is not valid")
    return None


def check_port(port: int) -> None:
    """Pass for 80, 443 and what is above 1023 and no known other service's. Raises RefusedUrl."""
    if port not in _WEB_PORTS and (not _FIRST_PORT <= port <= _LAST_PORT or port in _BAD_PORTS):
        raise RefusedUrl(f"its port is not allowed; {_ALLOWED}")


def check_address(ip: str | IPv4Address | IPv6Address, allow_loopback: bool) -> None:
    """Pass for a globally routable unicast address, and for loopback where that is allowed.

    An IPv6 address that carries an IPv4 address (mapped, 6to4, NAT64, ISATAP) is judged by the one it carries too.
    Raises RefusedAddress for everything else, for an address with a zone and for what is no address; the message does
    not repeat the address.
    """
    try:
        address = ip_address(ip) if isinstance(ip, str) else ip
    except ValueError as error:
        raise RefusedAddress("not a network address") from error
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise RefusedAddress("not a public address")
        address = address.ipv4_mapped or address
    if address.is_loopback and allow_loopback:
        return
    if not all(_is_public(each) for each in _judged(address)):
        raise RefusedAddress("not a public address")


def _judged(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """The address, or what it carries where the IPv6 address is only the way there."""
    if isinstance(address, IPv4Address):
        return [address]
    last = IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _NAT64:
        return [last]
    judged: list[IPv4Address | IPv6Address] = [address.sixtofour or address]
    if int(address) >> 32 & 0xFFFF_FFFF in _ISATAP:
        judged.append(last)
    return judged


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_link_local:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NEVER_4)
    return address in _GLOBAL_UNICAST and not any(address in network for network in _NEVER_6)


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


MAX_LENGTH = 2048


def webhook_address(url: str, allow_loopback: bool) -> str:
    """`url`, where a delivery to it can be tried at all; what its name resolves to is checked at every delivery.

    Raises PlatformError `bad_request` with a 400, whose text does not repeat the URL.
    """
    why = f"it is longer than {MAX_LENGTH} characters"
    if len(url) <= MAX_LENGTH:
        try:
            host, _ = check_url(url)
            if (address := literal(host)) is not None:
                check_address(address, allow_loopback)
            return url
        except RefusedAddress:
            why = "its address is not a public one"
        except RefusedUrl as refused:
            why = str(refused)
    raise PlatformError("bad_request", f"fal_webhook cannot be used: {why}.")
