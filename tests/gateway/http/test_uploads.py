"""Uploads in one piece: what fal's clients send is stored, and nothing else can be done with what they are given."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from gateway.app import Parts, create_app
from gateway.files.uploads import Grants
from gateway.keys.tokens import Purpose, Tokens
from gateway.ledger.store import SqlLedger
from tests.gateway.http.storing import PNG, Uploader, beside, capped, in_fals_shape

SMALL_CAP = 5_000


@pytest.fixture
def parts(parts: Parts, ledger: SqlLedger) -> Parts:
    return capped(parts, ledger, SMALL_CAP)


@pytest.mark.parametrize("query", ["?storage_type=fal-cdn-v3", "?storage_type=gcs", ""])
async def test_an_initiated_upload_is_served_under_its_address(up: Uploader, query: str) -> None:
    begun = await up.begun(f"initiate{query}")
    assert begun["file_url"].startswith("http://testserver:8000/cdn/files/uploads/")
    assert (await up.client.get(begun["file_url"])).status_code == 404
    assert (await up.client.put(begun["upload_url"], content=PNG)).is_success
    answer = await up.client.get(begun["file_url"])
    assert (answer.content, answer.headers["content-type"]) == (PNG, "image/png")
    assert answer.headers["content-disposition"] == 'inline; filename="a.png"'


async def test_python_uploads_with_a_storage_token(up: Uploader) -> None:
    answer = await up.client.post("/rest/storage/auth/token?storage_type=fal-cdn-v3", json={})
    token = answer.json()
    assert (token["token_type"], token["base_url"]) == ("Bearer", "http://testserver:8000/cdn")
    assert datetime.fromisoformat(token["expires_at"]).utcoffset() is not None
    assert not token["expires_at"].endswith("Z")
    sent = {"authorization": f"Bearer {token['token']}", "x-fal-file-name": "cat.png", "content-type": "image/png"}
    url = (await up.client.post("/cdn/files/upload", content=PNG, headers=sent)).json()["access_url"]
    assert (await up.client.get(url)).content == PNG


async def test_a_file_is_reached_by_both_its_paths(up: Uploader) -> None:
    url = await up.whole(PNG)
    assert (await up.client.get(url.replace("/cdn/files/", "/files/"))).content == PNG


async def test_fals_hosts_get_addresses_on_fals_cdn(up: Uploader) -> None:
    behind_tls = {"host": "rest.fal.ai", "x-forwarded-proto": "https"}
    rest = await up.client.post("/storage/upload/initiate", json={}, headers=behind_tls)
    upload, file = rest.json()["upload_url"], rest.json()["file_url"]
    assert upload.startswith("https://v3.fal.media/upload/")
    assert file.startswith("https://v3.fal.media/files/uploads/")
    assert (await up.client.put(upload, content=PNG)).is_success
    assert (await up.client.get(file)).content == PNG


@pytest.mark.parametrize(
    ("content", "declared", "name"),
    [
        (b"<html><script>alert(1)</script></html>", "text/html", "page.html"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", "picture.svg"),
        (b"alert(1)", "image/png", "picture.png"),
        (b"GIF89a<script>", "image/gif", "picture.gif"),
        (b"", "image/png", "nothing.png"),
    ],
)
async def test_what_is_no_picture_is_only_downloaded(up: Uploader, content: bytes, declared: str, name: str) -> None:
    url = await up.whole(content, content_type=declared, file_name=name)
    answer = await up.client.get(url)
    assert answer.content == content
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert url.rpartition(".")[2] in ("bin", "png", "gif")


@pytest.mark.parametrize(
    "name",
    [
        "../../../etc/passwd",
        "..\\..\\windows.ini",
        "/etc/passwd",
        'a"; filename="b.exe',
        "a\r\nset-cookie: x=y",
        "x" * 999,
        "..",
        "\u202egnp.exe",
        "Größe.png",
        "%2e%2e%2f",
    ],
)
async def test_a_clients_name_names_nothing_here(up: Uploader, parts: Parts, name: str) -> None:
    url = await up.whole(PNG, file_name=name)
    answer = await up.client.get(url)
    assert answer.status_code == 200
    disposition = answer.headers["content-disposition"]
    assert "/" not in disposition
    assert ".." not in disposition
    assert disposition.count('"') == 2
    assert "set-cookie" not in answer.headers
    stored = await asyncio.to_thread(lambda: [*(parts.settings.data_dir / "files").rglob("file.*")])
    assert len(stored) == 1


@pytest.mark.parametrize("name", ["Größe.png", "写真.png"])
async def test_the_name_in_a_header_is_kept(up: Uploader, name: str) -> None:
    headers = {
        b"x-fal-file-name": name.encode(),
        b"content-type": b"image/png",
        **{key.encode(): value.encode() for key, value in (await up.token()).items()},
    }
    url = (await up.client.post("/cdn/files/upload", content=PNG, headers=headers)).json()["access_url"]
    assert f"filename*=UTF-8''{quote(name)}" in (await up.client.get(url)).headers["content-disposition"]


async def test_a_name_in_a_header_that_is_not_utf_8_is_read_as_before(up: Uploader) -> None:
    headers = {b"x-fal-file-name": "Größe.png".encode("latin-1"), b"content-type": b"image/png"}
    url = (await up.client.post("/cdn/files/upload", content=PNG, headers=headers)).json()["access_url"]
    assert quote("Größe.png") in (await up.client.get(url)).headers["content-disposition"]


@pytest.mark.parametrize("field", ["file_name", "content_type"])
async def test_what_is_null_in_an_initiation_is_absent(up: Uploader, field: str) -> None:
    begun = await up.begun(**{field: None})
    assert (await up.client.put(begun["upload_url"], content=PNG)).status_code == 200
    assert (await up.client.get(begun["file_url"])).content == PNG


async def test_one_address_is_for_one_file(up: Uploader) -> None:
    one, two = await up.begun(), await up.begun()
    query, path = two["upload_url"].partition("?")[2], one["upload_url"].partition("?")[0]
    assert in_fals_shape(await up.client.put(f"{path}?{query}", content=PNG), 403)
    for url in (one["file_url"], two["file_url"]):
        assert (await up.client.get(url)).status_code == 404


@pytest.mark.parametrize("query", ["", "token=", "token=x.y.z", "token=%00", "other=1"])
async def test_without_its_token_an_address_is_nothing(up: Uploader, query: str) -> None:
    path = (await up.begun())["upload_url"].partition("?")[0]
    assert in_fals_shape(await up.client.put(f"{path}?{query}", content=PNG), 403)


async def test_a_token_for_something_else_uploads_nothing(up: Uploader, parts: Parts) -> None:
    path = (await up.begun())["upload_url"].partition("?")[0]
    tokens = Tokens.of(parts.settings)
    for purpose in (Purpose.STORAGE, Purpose.STREAM):
        answer = await up.client.put(f"{path}?token={tokens.issue('', purpose, 60)}", content=PNG)
        assert in_fals_shape(answer, 403)


async def test_an_address_runs_out(up: Uploader, parts: Parts) -> None:
    old = Grants(Tokens(Tokens.of(parts.settings)._secret, clock=lambda: 1_000_000.0))
    grant = old.make("", "image/png", "a.png", multipart=False)
    answer = await up.client.put(f"/cdn/upload/{grant.id}?token={old.token(grant)}", content=PNG)
    assert in_fals_shape(answer, 403)


async def test_the_first_content_stays(up: Uploader) -> None:
    begun = await up.begun()
    for _ in range(2):  # a client that did not hear the answer sends again
        assert (await up.client.put(begun["upload_url"], content=PNG)).status_code == 200
    assert in_fals_shape(await up.client.put(begun["upload_url"], content=b"other"), 409)
    assert (await up.client.get(begun["file_url"])).content == PNG


@pytest.mark.parametrize("declares", [True, False])
async def test_a_file_above_the_cap_is_refused(up: Uploader, declares: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield bytes(1000)

    begun = await up.begun()
    content: Any = bytes(SMALL_CAP + 1) if declares else chunks()
    assert in_fals_shape(await up.client.put(begun["upload_url"], content=content), 413)
    assert (await up.client.get(begun["file_url"])).status_code == 404
    assert (await up.client.put(begun["upload_url"], content=bytes(SMALL_CAP))).is_success


async def test_a_hugely_declared_file_is_refused_unread(up: Uploader) -> None:
    begun = await up.begun()

    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    answer = await up.client.put(begun["upload_url"], content=never(), headers={"content-length": str(10**15)})
    assert in_fals_shape(answer, 413)


async def test_a_client_that_leaves_stores_nothing(up: Uploader, parts: Parts) -> None:
    begun = await up.begun()
    url = httpx2.URL(begun["upload_url"])
    scope = {
        "type": "http",
        "method": "PUT",
        "path": url.path,
        "query_string": url.query,
        "headers": [],
        "scheme": "http",
    }
    messages = iter([{"type": "http.request", "body": PNG[:20], "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope |= {"headers": [(b"host", b"testserver:8000")], "server": ("testserver", 8000), "root_path": ""}
    await create_app(parts)(scope, receive, send)
    assert sent[0]["status"] == 499
    assert (await up.client.get(begun["file_url"])).status_code == 404


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b'{"file_name": 1}', b'{"file_name": "%s"}' % (b"x" * 1001), b"x" * 20_000]
)
async def test_a_broken_initiation_is_refused(up: Uploader, body: bytes) -> None:
    answer = await up.client.post("/rest/storage/upload/initiate", content=body)
    assert answer.status_code in (400, 413)
    assert in_fals_shape(answer, answer.status_code)


async def test_a_single_address_takes_no_parts(up: Uploader) -> None:
    begun = await up.begun()
    assert in_fals_shape(await up.client.put(beside(begun["upload_url"], "1"), content=PNG), 403)
