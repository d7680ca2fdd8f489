"""Fetching what a client points at: public addresses only, in bounded time and bytes."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO

import httpx2

from gateway.addresses import RefusedAddress, RefusedUrl
from gateway.errors import ModelError
from gateway.fields import location
from gateway.guard import Resolve, check_url, guarded_client, resolve_name

# No compression, so that the byte cap counts what arrives; some hosts answer 403 to a client without a name.
_HEADERS: Mapping[str, str] = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "fooocus-serve"}
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """timeout_s: for the whole fetch with its redirects. allow_loopback: for examples and tests on one machine."""

    timeout_s: float = 20.0
    redirects: int = 3
    allow_loopback: bool = False


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
        content = bytearray()
        async with self._opened(url, field) as response:
            async for part in _parts(response, max_bytes, field):
                content += part
        return bytes(content)

    async def save(self, url: str, file: BinaryIO, max_bytes: int, field: str = "") -> int:
        """Write to `file` what `fetch` would return, for what is too large for memory; the number of bytes.

        After an error the file holds what had arrived: write to one that can be thrown away. Raises what `fetch`
        raises, and RuntimeError when the file cannot be written.
        """
        written = 0
        piece = bytearray()
        async with self._opened(url, field) as response:
            async for part in _parts(response, max_bytes, field):
                piece += part
                if len(piece) >= _PIECE:
                    written += await _write(file, piece)
        return written + await _write(file, piece)

    @asynccontextmanager
    async def _opened(self, url: str, field: str) -> AsyncIterator[httpx2.Response]:
        try:
            async with (
                asyncio.timeout(self._limits.timeout_s),
                guarded_client(self._tls, self._resolve, self._limits.allow_loopback) as client,
                self._followed(client, url, field) as response,
            ):
                yield response
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise _failed("it did not arrive in time", field) from error
        except RefusedAddress as error:
            raise _failed("its address is not a public one", field) from error
        except RefusedUrl as error:
            raise _failed(str(error), field) from error
        except socket.gaierror as error:
            raise _failed("its host is unknown", field) from error
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise _failed("its address is not valid", field) from error
        except (httpx2.HTTPError, OSError) as error:
            raise _failed("the connection failed", field) from error

    @asynccontextmanager
    async def _followed(self, client: httpx2.AsyncClient, url: str, field: str) -> AsyncIterator[httpx2.Response]:
        target = httpx2.URL(url)
        for _ in range(self._limits.redirects + 1):
            # before the client, which makes a header of credentials and knows some schemes more
            check_url(target)
            # Cookies of one hop are nothing to the next.
            client.cookies.clear()
            async with client.stream("GET", target, headers=_HEADERS) as response:
                if not response.has_redirect_location:
                    yield response
                    return
                target = target.join(response.headers["location"])
        raise _failed("too many redirects", field)


async def _parts(response: httpx2.Response, max_bytes: int, field: str) -> AsyncIterator[bytes]:
    if response.status_code != 200:
        raise _failed(f"its server answered {response.status_code}", field)
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise too_large(max_bytes, field)
    arrived = 0
    # Raw: what a server compressed against our wish is not unpacked.
    async for part in response.aiter_raw():
        arrived += len(part)
        if arrived > max_bytes:
            raise too_large(max_bytes, field)
        yield part


async def _write(file: BinaryIO, piece: bytearray) -> int:
    try:
        await asyncio.to_thread(file.write, bytes(piece))
    except OSError as error:  # a full disk is no fault of the connection, nor the client's
        raise RuntimeError("a fetched file could not be written") from error
    size = len(piece)
    piece.clear()
    return size


def too_large(max_bytes: int, field: str) -> ModelError:
    """The error for a file of more than `max_bytes`."""
    msg = f"The file is larger than the {max_bytes} bytes that are accepted."
    return ModelError("file_too_large", msg, location(field), ctx={"max_size": max_bytes})


def _failed(why: str, field: str) -> ModelError:
    return ModelError("file_download_error", f"The file could not be downloaded: {why}.", location(field))
