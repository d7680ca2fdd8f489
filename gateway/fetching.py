"""Fetching what a client points at: public addresses only, in bounded time and bytes."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx2

from gateway.addresses import RefusedAddress, check_address
from gateway.errors import ModelError
from gateway.fields import location

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

# No compression, so that the byte cap counts what arrives; some hosts answer 403 to a client without a name.
_HEADERS: Mapping[str, str] = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "fooocus-serve"}


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """timeout_s: for the whole fetch with its redirects. allow_loopback: for examples and tests on one machine."""

    timeout_s: float = 20.0
    redirects: int = 3
    allow_loopback: bool = False


async def resolve_name(host: str, port: int) -> list[str]:
    """The addresses of `host`, in the system's order of preference, each once."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


class PinnedTransport(httpx2.AsyncBaseTransport):
    """Connects each request to an address that was checked, never to a name that could resolve anew.

    The request's Host header and the name that TLS verifies stay those of the address that the client gave.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, resolve: Resolve, allow_loopback: bool) -> None:
        self._inner, self._resolve, self._allow_loopback = inner, resolve, allow_loopback

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        host = request.url.raw_host.decode("ascii")
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        addresses = await self._resolve(host, port)
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


class Fetcher:
    """Fetches files that clients name by address. Holds no connection between fetches."""

    def __init__(self, limits: FetchLimits, resolve: Resolve = resolve_name) -> None:
        self._limits, self._resolve = limits, resolve
        # Reading the certificates is slow, so it is done once. An operator's SSL_CERT_FILE counts, proxies do not.
        self._tls = httpx2.create_ssl_context()

    async def fetch(self, url: str, max_bytes: int, field: str = "") -> bytes:
        """The content behind the http(s) address `url`, at most `max_bytes` of it.

        field: where in the client's input the address stands, dotted. Raises ModelError `file_download_error`, or
        `file_too_large`; the messages name no address of ours and no server inside.
        """
        try:
            async with asyncio.timeout(self._limits.timeout_s), self._client() as client:
                return await self._follow(client, url, max_bytes, field)
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise _failed("it did not arrive in time", field) from error
        except RefusedAddress as error:
            raise _failed("its address is not a public one", field) from error
        except socket.gaierror as error:
            raise _failed("its host is unknown", field) from error
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise _failed("its address is not valid", field) from error
        except (httpx2.HTTPError, OSError) as error:
            raise _failed("the connection failed", field) from error

    def _client(self) -> httpx2.AsyncClient:
        inner = httpx2.AsyncHTTPTransport(verify=self._tls, trust_env=False)
        transport = PinnedTransport(inner, self._resolve, self._limits.allow_loopback)
        # Without a timeout of its own: the deadline is one for all.
        return httpx2.AsyncClient(transport=transport, trust_env=False, timeout=None)

    async def _follow(self, client: httpx2.AsyncClient, url: str, max_bytes: int, field: str) -> bytes:
        target = httpx2.URL(url)
        for _ in range(self._limits.redirects + 1):
            if target.scheme not in ("http", "https") or not target.host or target.userinfo:
                raise _failed("only http and https addresses without credentials can be fetched", field)
            # Cookies of one hop are nothing to the next.
            client.cookies.clear()
            async with client.stream("GET", target, headers=_HEADERS, follow_redirects=False) as response:
                if not response.has_redirect_location:
                    return await _read(response, max_bytes, field)
                target = target.join(response.headers["location"])
        raise _failed("too many redirects", field)


async def _read(response: httpx2.Response, max_bytes: int, field: str) -> bytes:
    if response.status_code != 200:
        raise _failed(f"its server answered {response.status_code}", field)
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large(max_bytes, field)
    content = bytearray()
    # Raw: what a server compressed against our wish is not unpacked.
    async for part in response.aiter_raw():
        content += part
        if len(content) > max_bytes:
            raise too_large(max_bytes, field)
    return bytes(content)


def too_large(max_bytes: int, field: str) -> ModelError:
    """The error for a file of more than `max_bytes`."""
    msg = f"The file is larger than the {max_bytes} bytes that are accepted."
    return ModelError("file_too_large", msg, location(field), ctx={"max_size": max_bytes})


def _failed(why: str, field: str) -> ModelError:
    return ModelError("file_download_error", f"The file could not be downloaded: {why}.", location(field))
