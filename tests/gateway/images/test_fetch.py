"""Fetching from loopback servers, and what is refused before anything is sent."""

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from gateway.errors import ModelError
from gateway.images.fetch import DownloadFault, Fetcher, FetchLimits, Saved
from gateway.images.ssrf import PinnedTransport
from tests.gateway.talking import read_head, talking

LOCAL = FetchLimits(timeout_s=5, allow_loopback=True)

Reply = Callable[[str, dict[str, str]], bytes]


def answer(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


def redirect(to: str) -> bytes:
    return answer(b"", "302 Found", f"location: {to}\r\n")


@asynccontextmanager
async def serving(reply: Reply, hold_open: bool = False) -> AsyncIterator[str]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, headers = await read_head(reader)
        writer.write(reply(first.split()[1], headers))
        if hold_open:
            await reader.read()

    async with talking(talk) as url:
        yield url


async def refused(fetching: Awaitable[bytes], type: str, text: str = "") -> ModelError:
    with pytest.raises(ModelError) as caught:
        await fetching
    assert caught.value.type == type
    assert text in caught.value.msg
    return caught.value


def resolving(*answers: Sequence[str]) -> tuple[Callable[[str, int], Awaitable[Sequence[str]]], list[str]]:
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return resolve, asked


async def test_a_file_arrives_uncompressed_by_request() -> None:
    seen: dict[str, str] = {}

    def reply(path: str, headers: dict[str, str]) -> bytes:
        seen.update(headers, path=path)
        return answer(b"picture")

    async with serving(reply) as url:
        assert await Fetcher(LOCAL).fetch(f"{url}/a.png?b=c", 100) == b"picture"
        assert seen["path"] == "/a.png?b=c"
        assert seen["accept-encoding"] == "identity"
        assert seen["host"] == url.removeprefix("http://")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "169.254.169.254", "10.0.0.1", "2130706433"])
async def test_an_address_that_is_not_public_is_refused_without_a_connection(host: str) -> None:
    asked: list[str] = []

    def reply(path: str, _: dict[str, str]) -> bytes:
        asked.append(path)
        return answer(b"")

    async with serving(reply) as url:
        port = url.rpartition(":")[2]
        fault = await refused(
            Fetcher(FetchLimits(timeout_s=5)).fetch(f"http://{host}:{port}/x", 100, "loras.0.path"),
            "file_download_error",
            "not a public one",
        )
    assert fault.loc == ("loras", 0, "path")
    assert host not in fault.msg
    assert asked == []


async def test_one_inside_address_among_public_ones_is_enough_to_refuse() -> None:
    resolve, _ = resolving(["1.1.1.1", "10.0.0.1"])
    await refused(Fetcher(LOCAL, resolve).fetch("http://mixed.example/", 100), "file_download_error", "public")


async def test_a_name_is_resolved_once_and_the_checked_address_is_connected() -> None:
    """A name that resolves to another address later (DNS rebinding) gains nothing."""
    resolve, asked = resolving(["127.0.0.1"], ["169.254.169.254"])
    async with serving(lambda _, headers: answer(headers["host"].encode())) as url:
        port = url.rpartition(":")[2]
        content = await Fetcher(LOCAL, resolve).fetch(f"http://pictures.example:{port}/", 100)
    assert content == f"pictures.example:{port}".encode()
    assert asked == ["pictures.example"]


async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    resolve, _ = resolving(["::1", "127.0.0.1"])
    async with serving(lambda *_: answer(b"there")) as url:
        port = url.rpartition(":")[2]
        assert await Fetcher(LOCAL, resolve).fetch(f"http://pictures.example:{port}/", 100) == b"there"


async def test_tls_verifies_the_name_while_the_address_is_pinned() -> None:
    sent: list[httpx2.Request] = []

    def inner(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200)

    resolve, _ = resolving(["2606:4700::1111"])
    transport = PinnedTransport(httpx2.MockTransport(inner), resolve, allow_loopback=False)
    async with httpx2.AsyncClient(transport=transport, trust_env=False) as client:
        await client.get("https://pictures.example/a")
    (request,) = sent
    assert request.url.host == "2606:4700::1111"
    assert request.headers["host"] == "pictures.example"
    assert request.extensions["sni_hostname"] == "pictures.example"


def test_certificates_are_verified() -> None:
    tls = Fetcher(LOCAL)._tls
    assert tls.verify_mode == ssl.CERT_REQUIRED
    assert tls.check_hostname


async def test_redirects_are_followed_up_to_ten() -> None:
    def reply(path: str, _: dict[str, str]) -> bytes:
        left = int(path[1:])
        return redirect(f"/{left - 1}") if left else answer(b"arrived")

    async with serving(reply) as url:
        assert await Fetcher(LOCAL).fetch(f"{url}/10", 100) == b"arrived"
        await refused(Fetcher(LOCAL).fetch(f"{url}/11", 100), "file_download_error", "redirects")


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest", "file:///etc/passwd", "http://user:word@127.0.0.1/", "ftp://1.1.1.1/"]
)
async def test_each_redirect_is_checked_like_the_first_address(target: str) -> None:
    def reply(path: str, _: dict[str, str]) -> bytes:
        return redirect(target if path == "/9" else f"/{int(path[1:]) + 1}")

    async with serving(reply) as url:
        await refused(Fetcher(LOCAL).fetch(f"{url}/9", 100), "file_download_error")
        await refused(Fetcher(LOCAL).fetch(f"{url}/1", 100), "file_download_error")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://1.1.1.1/a", "http://user:word@1.1.1.1/", "http://", "nonsense", "http://[::/a"]
)
async def test_only_plain_http_addresses_are_fetched(url: str) -> None:
    await refused(Fetcher(LOCAL).fetch(url, 100), "file_download_error")


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "203 Non-Authoritative Information"])
async def test_every_answer_of_success_is_taken(status: str) -> None:
    async with serving(lambda *_: answer(b"picture", status)) as url:
        assert await Fetcher(LOCAL).fetch(url, 100) == b"picture"


async def test_a_host_that_refuses_unknown_agents_takes_this_one_for_a_browser() -> None:
    def reply(_: str, headers: dict[str, str]) -> bytes:
        known = headers.get("user-agent", "").startswith("Mozilla/5.0 (compatible; ")
        return answer(b"picture") if known else answer(b"", "403 Forbidden")

    async with serving(reply) as url:
        assert await Fetcher(LOCAL).fetch(url, 100) == b"picture"


async def test_an_answer_of_404_is_named() -> None:
    async with serving(lambda *_: answer(b"none", "404 Not Found")) as url:
        await refused(Fetcher(LOCAL).fetch(url, 100), "file_download_error", "404")


@pytest.mark.parametrize(
    "headers", ["content-length: 5000\r\n", "content-length: 5\r\n", "", "transfer-encoding: chunked\r\n"]
)
async def test_the_byte_cap_holds_whatever_the_server_declares(headers: str) -> None:
    body = b"1388\r\n" + b"x" * 5000 + b"\r\n0\r\n\r\n" if "chunked" in headers else b"x" * 5000

    async with serving(lambda *_: f"HTTP/1.1 200 OK\r\n{headers}\r\n".encode() + body) as url:
        fetching = Fetcher(LOCAL).fetch(url, 4999, "image_url")
        if headers == "content-length: 5\r\n":
            # What follows the declared length is no part of the answer.
            assert len(await fetching) == 5
            return
        fault = await refused(fetching, "file_too_large")
    assert fault.ctx == {"max_size": 4999}
    assert fault.loc == ("image_url",)


async def test_what_is_compressed_all_the_same_is_not_unpacked() -> None:
    async with serving(lambda *_: answer(b"packed", headers="content-encoding: gzip\r\n")) as url:
        assert await Fetcher(LOCAL).fetch(url, 100) == b"packed"


async def test_a_server_that_stalls_meets_the_deadline() -> None:
    limits = FetchLimits(timeout_s=0.2, allow_loopback=True)
    async with serving(lambda *_: b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", hold_open=True) as url:
        await refused(Fetcher(limits).fetch(url, 100), "file_download_error", "in time")


async def test_a_connection_that_breaks_is_an_error_of_the_file() -> None:
    async with serving(lambda *_: b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc") as url:
        await refused(Fetcher(LOCAL).fetch(url, 100), "file_download_error", "connection failed")
    await refused(Fetcher(LOCAL).fetch(url, 100), "file_download_error", "connection failed")


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with serving(lambda *_: answer(b"direct")) as url:
        assert await Fetcher(LOCAL).fetch(url, 100) == b"direct"


async def saved(url: str, limits: FetchLimits = LOCAL, **options: Any) -> tuple[Saved | None, bytes]:
    file = io.BytesIO()
    told = await Fetcher(limits, **options).save(url, file, 10_000)
    return told, file.getvalue()


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="Ink style (v2).safetensors"', "Ink style (v2).safetensors"),
        ("attachment; filename*=UTF-8''na%C3%AFve.safetensors", "naïve.safetensors"),
        ('attachment; filename="../../etc/pass<wd>"', "passwd"),
        ("attachment", "12345"),
    ],
)
async def test_a_file_has_the_name_that_its_server_tells(header: str, name: str) -> None:
    headers = f'content-disposition: {header}\r\netag: "abc"\r\n'
    async with serving(lambda *_: answer(b"weights", headers=headers)) as url:
        assert await saved(f"{url}/models/12345?token=x") == (Saved(7, name, '"abc"'), b"weights")


async def test_what_has_not_changed_is_not_sent_again() -> None:
    def reply(_: str, headers: dict[str, str]) -> bytes:
        return answer(b"", "304 Not Modified") if headers.get("if-none-match") == '"abc"' else answer(b"new")

    async with serving(reply) as url:
        assert await Fetcher(LOCAL).save(url, io.BytesIO(), 100, etag='"abc"') is None
        assert await Fetcher(LOCAL).save(url, file := io.BytesIO(), 100, etag='"old"') is not None
        assert file.getvalue() == b"new"


@pytest.mark.parametrize("etag", [b'"\xe9"', b'"' + b"x" * 2000 + b'"', b'"a\tb"'])
async def test_an_etag_that_could_not_be_sent_back_is_none(etag: bytes) -> None:
    """Or what was fetched once could never be asked for again."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\netag: " + etag + b"\r\n\r\nabc")

    async with talking(talk) as url:
        found, _ = await saved(url)
        assert found.etag is None
        assert await Fetcher(LOCAL).save(url, io.BytesIO(), 100, etag=found.etag) is not None


async def test_a_token_goes_to_its_origin_alone() -> None:
    seen: list[str | None] = []

    def elsewhere(_: str, headers: dict[str, str]) -> bytes:
        seen.append(headers.get("authorization"))
        return answer(b"weights")

    async with serving(elsewhere) as other:

        def hub(path: str, headers: dict[str, str]) -> bytes:
            seen.append(headers.get("authorization"))
            return redirect("/moved" if path == "/file" else other)

        async with serving(hub) as url:
            _, content = await saved(f"{url}/file", tokens={url: "hf_secret"})
    assert content == b"weights"
    assert seen == ["Bearer hf_secret", "Bearer hf_secret", None]


@pytest.mark.parametrize("silent", [True, False])
async def test_an_address_that_drips_ends(silent: bool) -> None:
    """Far within the time that the whole may take."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n")
        while not silent:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)
        await reader.read(-1)

    limits = FetchLimits(60, allow_loopback=True, grace_s=0.2, least_bytes_per_s=1000)
    async with talking(drip) as url, asyncio.timeout(10):
        with pytest.raises(DownloadFault, match="in time") as caught:
            await saved(url, limits)
    assert caught.value.passing


async def test_what_comes_fast_enough_may_take_longer_than_the_grace() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3000\r\n\r\n")
        for _ in range(3):
            await asyncio.sleep(0.6)
            writer.write(bytes(1000))

    limits = FetchLimits(60, allow_loopback=True, grace_s=1.5, least_bytes_per_s=2000)
    async with talking(talk) as url:
        _, content = await saved(url, limits)
    assert len(content) == 3000
