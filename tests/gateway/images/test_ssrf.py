"""Nothing that a client names leads inside: every vector is refused before a connection, without an outside network."""

import asyncio
import io
import socket
from collections.abc import Sequence
from contextlib import suppress

import httpx2
import pytest

from gateway.errors import ModelError
from gateway.images.fetch import Fetcher, FetchLimits, Saved
from gateway.images.ssrf import NameResolver, PinnedTransport, RefusedAddress, RefusedUrl, check_url, guarded_client
from tests.gateway.images.test_fetch import LOCAL, answer, redirect, refused, resolving, serving

# What the host itself spells: refused without asking a resolver.
SPELT = [
    "http://127.0.0.1/",  # loopback
    "http://127.255.255.254/",
    "http://[::1]/",
    "http://0.0.0.0/",  # unspecified: this machine, on Linux
    "http://[::]/",
    "http://10.0.0.1/",  # private
    "http://172.31.255.255/",
    "http://192.168.0.1/",
    "http://[fd12:3456::1]/",  # unique local
    "http://[fec0::1]/",  # site-local
    "http://169.254.169.254/latest/meta-data/",  # link-local: metadata services
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",  # with a zone
    "http://[2606:4700::1111%25eth0]/",
    "http://100.64.0.1/",  # carrier-grade NAT
    "http://100.100.100.200/",
    "http://168.63.129.16/",  # a metadata service on a public address
    "http://192.0.0.192/",
    "http://224.0.0.1/",  # multicast
    "http://[ff02::1]/",
    "http://192.0.2.1/",  # documentation
    "http://198.51.100.1/",
    "http://203.0.113.1/",
    "http://[2001:db8::1]/",
    "http://[3fff::1]/",
    "http://198.19.255.255/",  # benchmarking
    "http://[2001:2::1]/",
    "http://240.0.0.1/",  # reserved
    "http://255.255.255.255/",  # broadcast
    "http://[100::1]/",  # discarded
    "http://192.88.99.1/",  # 6to4 relays
    "http://[::ffff:127.0.0.1]/",  # IPv4-mapped
    "http://[::ffff:a9fe:a9fe]/",
    "http://[::127.0.0.1]/",  # IPv4-compatible
    "http://[::1.1.1.1]/",
    "http://[::ffff:0:127.0.0.1]/",  # IPv4-translated
    "http://[2002:7f00:1::]/",  # 6to4 of 127.0.0.1
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",  # Teredo
    "http://[64:ff9b::127.0.0.1]/",  # NAT64
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::1.1.1.1]/",  # NAT64 for local use
    "http://[2606:4700::5efe:10.0.0.1]/",  # ISATAP
    "http://[2606:4700::200:5efe:169.254.169.254]/",
    "http://2130706433/",  # decimal
    "http://2852039166/",
    "http://0177.0.0.1/",  # octal
    "http://017700000001/",
    "http://0x7f000001/",  # hexadecimal
    "http://0x7f.0.0.1/",
    "http://0x7f.1/",
    "http://127.1/",  # short
    "http://127.0.1/",
    "http://0/",
    "http://127.0.0.1./",  # with a final dot
    "http://1.1.1.256/",
    "http://1.1.1.1.1/",
    "http://127。0。0。1/",  # other full stops
    "http://127.0.0.1/",  # wide digits
    "http://%31%32%37.0.0.1/",  # percent-encoded
    "http://①②⑦.0.0.1/",
    "http://user:word@1.1.1.1/",  # credentials
    "http://1.1.1.1@127.0.0.1/",
    "http://1.1.1.1\\@127.0.0.1/",
    "http://1.1.1.1%2f@127.0.0.1/",
    "http://1.1.1.1:80@127.0.0.1/",
    "http://1.1.1.1:22/",  # ports of other services
    "http://1.1.1.1:25/",
    "http://1.1.1.1:0/",
    "http://1.1.1.1:6667/",
    "http://1.1.1.1:65536/",
    "http://1.1.1.1:-1/",
    "ftp://1.1.1.1/",  # schemes
    "file:///etc/passwd",
    "gopher://1.1.1.1/",
    "unix:///run/docker.sock",
    "javascript:alert(1)",
    "//1.1.1.1/",
    "http:/1.1.1.1/",
    "http:///1.1.1.1/",
    "http://exa mple.org/",  # hosts that are none
    "http://a..b/",
    "http://-/",
    "http://exa\tmple.org/",
    "http://example.org\r\nhost: inside/",
    "http://" + "a" * 64 + ".example/",
    "",
]

# What a name resolves to.
ANSWERED = [
    ["127.0.0.1"],
    ["::1"],
    ["10.0.0.1"],
    ["169.254.169.254"],
    ["::ffff:192.168.0.1"],
    ["64:ff9b::10.0.0.1"],
    ["fe80::1%eth0"],
    ["1.1.1.1", "127.0.0.1"],
    ["10.0.0.1", "1.1.1.1"],
    ["1.1.1.1", "2606:4700::1111", "fd00::1"],
    ["not-an-address"],
]


def watched(*answers: Sequence[str]) -> tuple[httpx2.AsyncClient, list[str], list[str]]:
    """A client behind the guard; the hosts it connected to; the names it asked for."""
    connected: list[str] = []

    def connect(request: httpx2.Request) -> httpx2.Response:
        connected.append(request.url.host)
        return httpx2.Response(200)

    resolve, asked = resolving(*answers)
    transport = PinnedTransport(httpx2.MockTransport(connect), resolve, allow_loopback=False)
    return httpx2.AsyncClient(transport=transport, trust_env=False), connected, asked


def test_there_are_enough_vectors() -> None:
    assert len(set(SPELT)) + len(ANSWERED) >= 40


@pytest.mark.parametrize("url", SPELT)
async def test_a_url_is_refused_by_its_spelling(url: str) -> None:
    client, connected, asked = watched(["1.1.1.1"])
    async with client:
        for method in ("GET", "POST"):
            with pytest.raises((RefusedAddress, RefusedUrl, httpx2.InvalidURL, httpx2.UnsupportedProtocol)):
                await client.request(method, url)
    assert (connected, asked) == ([], [])


@pytest.fixture(scope="module")
def strict() -> Fetcher:
    """One for all vectors: reading certificates is slow."""
    return Fetcher(FetchLimits(timeout_s=5), resolving(["1.1.1.1"])[0])


@pytest.fixture(scope="module")
def local() -> Fetcher:
    return Fetcher(LOCAL)


@pytest.mark.parametrize("url", SPELT)
async def test_a_picture_there_is_refused_in_fals_shape(url: str, strict: Fetcher) -> None:
    fault = await refused(strict.fetch(url, 100, "image_url"), "file_download_error")
    assert fault.loc == ("image_url",)
    assert not url or url not in fault.msg


@pytest.mark.parametrize("answers", ANSWERED, ids=",".join)
async def test_a_name_is_refused_by_any_of_its_addresses(answers: list[str]) -> None:
    client, connected, asked = watched(answers)
    async with client:
        with pytest.raises(RefusedAddress):
            await client.get("https://pictures.example/a.png")
    assert (connected, asked) == ([], ["pictures.example"])


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "https://[::1]:8443/", "http://[::ffff:127.0.0.1]/"])
async def test_loopback_alone_can_be_allowed(url: str) -> None:
    transport = PinnedTransport(httpx2.MockTransport(lambda _: httpx2.Response(204)), resolving([])[0], True)
    async with httpx2.AsyncClient(transport=transport) as client:
        assert (await client.get(url)).status_code == 204
        for other in ("http://10.0.0.1/", "http://[64:ff9b::127.0.0.1]/", "http://[::1%25lo]/", "http://127.1/"):
            with pytest.raises(RefusedAddress):
                await client.get(other)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://pictures.example/a", "pictures.example", 443),
        ("http://pictures.example.:8080", "pictures.example.", 8080),
        ("HTTP://1.1.1.1", "1.1.1.1", 80),
        ("https://[2606:4700::1111]:8443/", "2606:4700::1111", 8443),
        ("https://bücher.example/", "xn--bcher-kva.example", 443),
        ("https://a_b.x-1.example/", "a_b.x-1.example", 443),
    ],
)
def test_good_urls_are_taken_apart(url: str, host: str, port: int) -> None:
    assert check_url(url) == (host, port)


async def test_an_international_name_is_resolved_in_ascii() -> None:
    client, connected, asked = watched(["1.1.1.1"])
    async with client:
        await client.get("https://bücher.example/")
    assert (connected, asked) == (["1.1.1.1"], ["xn--bcher-kva.example"])


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/",
        "//10.0.0.1/",
        "http://[64:ff9b::127.0.0.1]/",
        "http://[2002:7f00:1::]/",
        "http://2130706433/",
        "http://127.1/",
        "http://1.1.1.1:22/",
        "http://1.1.1.1:65536/",
        "http://user@127.0.0.1/",
        "file:///etc/passwd",
        "http://[fe80::1%25eth0]/",
        "http://a b/",
    ],
)
async def test_a_redirect_there_is_refused(target: str, local: Fetcher) -> None:
    async with serving(lambda *_: redirect(target)) as start:
        await refused(local.fetch(start, 100), "file_download_error")


async def test_a_name_that_turns_inside_between_two_hops_is_refused() -> None:
    resolve, asked = resolving(["127.0.0.1"], ["10.0.0.1"])
    async with serving(lambda *_: redirect("/again")) as url:
        port = url.rpartition(":")[2]
        await refused(
            Fetcher(LOCAL, resolve).fetch(f"http://pictures.example:{port}/", 100), "file_download_error", "public"
        )
    assert asked == ["pictures.example"] * 2


async def test_no_connection_serves_two_names() -> None:
    """The pool knows connections by address; on a shared one the second name's certificate would go unverified."""
    talks: list[asyncio.Task[None]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.append(task)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer(b"kept open"))
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tls = httpx2.create_ssl_context()
    async with guarded_client(tls, resolving(["127.0.0.1"])[0], allow_loopback=True) as client:
        for name in ("one.example", "two.example"):
            assert (await client.get(f"http://{name}:{port}/")).text == "kept open"
    server.close()
    await asyncio.gather(*talks)
    assert len(talks) == 2


async def test_a_large_file_goes_to_a_file() -> None:
    content = bytes(range(256)) * 10_000
    async with serving(lambda *_: answer(content)) as url:
        file = io.BytesIO()
        assert await Fetcher(LOCAL).save(url, file, len(content)) == Saved(len(content), "")
        assert file.getvalue() == content
        with pytest.raises(ModelError) as caught:
            await Fetcher(LOCAL).save(url, io.BytesIO(), len(content) - 1, "loras.0.path")
    assert (caught.value.type, caught.value.loc) == ("file_too_large", ("loras", 0, "path"))


async def test_a_full_disk_is_not_the_clients_fault() -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError("no space")

    async with serving(lambda *_: answer(b"weights")) as url:
        with pytest.raises(RuntimeError):
            await Fetcher(LOCAL).save(url, Full(), 100)


async def test_slow_names_hold_up_only_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int, type: int) -> list[object]:
        return [(2, type, 6, "", (f"1.1.1.{port}", port)), (2, type, 6, "", (f"1.1.1.{port}", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolver = NameResolver(1)
    assert await resolver("pictures.example", 7) == ["1.1.1.7"]
    resolver.close()
    with pytest.raises(RuntimeError):
        await resolver("pictures.example", 7)
