"""Weights by address, by a hub's name, as uploads and in a folder; a bad one is one clear error and leaves nothing."""

import asyncio
import hashlib
import json
import time
from pathlib import Path
from uuid import uuid4

import pytest

from gateway.errors import PlatformError
from gateway.files.backends import LocalFiles
from gateway.weights.settings import WeightsSettings
from gateway.weights.sources import stored
from tests.gateway.images.test_fetch import answer, redirect, serving, talking
from tests.gateway.weights.files import BROKEN, FIELD, finder, left, refused, weights

GOOD = weights()
SHA256 = hashlib.sha256(GOOD).hexdigest()


async def test_an_address_is_fetched_once_and_handed_on_by_its_hash(tmp_path: Path) -> None:
    asked: list[str] = []

    def reply(path: str, _: dict[str, str]) -> bytes:
        asked.append(path)
        return redirect("/there") if path == "/here" else answer(GOOD)

    finds = finder(tmp_path)
    async with serving(reply) as url:
        for _ in range(3):
            path = await finds.find(f"{url}/here", FIELD, "LoRA")
            assert (path.name, path.read_bytes()) == (SHA256, GOOD)
    assert asked == ["/here", "/there"]
    assert left(tmp_path) == [SHA256]
    counts = finds._cache.counts
    assert (counts.bytes, counts.misses, counts.hits) == (len(GOOD), 1, 2)


async def test_twenty_askers_are_one_download(tmp_path: Path) -> None:
    asked: list[str] = []

    def reply(path: str, _: dict[str, str]) -> bytes:
        asked.append(path)
        return answer(GOOD)

    finds = finder(tmp_path)
    async with serving(reply) as url:
        paths = await asyncio.gather(*(finds.find(f"{url}/a", FIELD, "LoRA") for _ in range(20)))
    assert {path.name for path in paths} == {SHA256}
    assert asked == ["/a"]


async def test_replicas_of_a_node_share_a_download(tmp_path: Path) -> None:
    """They know nothing of each other but the folder."""
    asked: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split()[1])
        await asyncio.sleep(0.2)
        writer.write(answer(GOOD))

    async with talking(talk) as url:
        paths = await asyncio.gather(*(finder(tmp_path).find(f"{url}/a", FIELD, "LoRA") for _ in range(3)))
    assert {path.name for path in paths} == {SHA256}
    assert asked == ["/a"]


async def test_one_who_leaves_does_not_stop_the_others_and_the_last_one_does(tmp_path: Path) -> None:
    begun, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        writer.write(answer(GOOD)[:50])
        if go_on.is_set():
            writer.write(answer(GOOD)[50:])
        await reader.read()
        ended.set()

    finds = finder(tmp_path)
    async with talking(talk) as url, asyncio.timeout(10):
        askers = [asyncio.create_task(finds.find(f"{url}/a", FIELD, "LoRA")) for _ in range(2)]
        await begun.wait()
        askers[0].cancel()
        await asyncio.wait({askers[0]})
        assert not ended.is_set()
        askers[1].cancel()
        await ended.wait()
        await asyncio.wait({askers[1]})
        assert left(tmp_path) == []
        go_on.set()
        assert (await finds.find(f"{url}/a", FIELD, "LoRA")).name == SHA256


async def test_what_an_address_had_counts_for_a_while_and_is_then_asked_by_its_etag(tmp_path: Path) -> None:
    now, asked = [0.0], list[str | None]()
    content, etag = GOOD, '"one"'

    def reply(_: str, headers: dict[str, str]) -> bytes:
        asked.append(headers.get("if-none-match"))
        if headers.get("if-none-match") == etag:
            return answer(b"", "304 Not Modified")
        return answer(content, headers=f"etag: {etag}\r\n")

    finds = finder(tmp_path, clock=lambda: now[0], remember_s=10)
    async with serving(reply) as url:
        first = await finds.find(url, FIELD, "LoRA")
        now[0] = 9
        await finds.find(url, FIELD, "LoRA")
        assert asked == [None]
        now[0] = 11
        assert await finds.find(url, FIELD, "LoRA") == first
        assert asked == [None, '"one"']
        await finds.find(url, FIELD, "LoRA")
        assert len(asked) == 2
        now[0], content, etag = 22, weights(value=1), '"two"'
        changed = await finds.find(url, FIELD, "LoRA")
        assert changed.read_bytes() == weights(value=1)
    now[0] = 40
    assert await finds.find(url, FIELD, "LoRA") == changed  # the server is away, and what it had is here


@pytest.mark.parametrize("name", BROKEN)
async def test_a_file_that_is_no_safetensors_is_refused_by_what_it_is(tmp_path: Path, name: str) -> None:
    content, told = BROKEN[name]
    served = [content, GOOD]
    finds = finder(tmp_path)
    disposition = 'content-disposition: attachment; filename="ink.safetensors"\r\n'
    async with serving(lambda *_: answer(served.pop(0), headers=disposition)) as url:
        fault = await refused(finds, f"{url}/get?token=secret", "feature_not_supported", told)
        assert "'ink.safetensors'" in fault.msg
        assert str(tmp_path) not in fault.msg
        assert "secret" not in fault.msg
        assert left(tmp_path) == []
        assert (await finds.find(f"{url}/get?token=secret", FIELD, "LoRA")).read_bytes() == GOOD


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_file_above_the_cap_is_not_kept(tmp_path: Path, chunked: bool) -> None:
    large = weights(2000)
    body = f"{len(large):x}\r\n".encode() + large + b"\r\n0\r\n\r\n"
    reply = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body if chunked else answer(large)
    async with serving(lambda *_: reply) as url:
        fault = await refused(finder(tmp_path), url, "file_too_large", "1000 bytes")
    assert fault.ctx == {"max_size": 1000}
    assert left(tmp_path) == []


async def test_an_address_that_drips_ends_and_leaves_nothing(tmp_path: Path) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(GOOD)[:-10])
        await reader.read()

    async with talking(drip) as url, asyncio.timeout(10):
        await refused(finder(tmp_path, grace_s=0.3), url, "file_download_error", "in time")
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("target", "inside"),
    [("http://169.254.169.254/latest", "169"), ("http://10.0.0.1/a", "10.0"), ("file:///etc/passwd", "passwd")],
)
async def test_a_redirect_inside_is_refused(tmp_path: Path, target: str, inside: str) -> None:
    async with serving(lambda *_: redirect(target)) as url:
        fault = await refused(finder(tmp_path), url, "file_download_error", "could not be downloaded")
    assert inside not in fault.msg


async def test_a_missing_file_and_a_login_are_told_with_what_can_be_done(tmp_path: Path) -> None:
    async with serving(lambda path, _: answer(b"", f"{path[1:4]} No")) as url:
        plain, trusted = finder(tmp_path), finder(tmp_path, tokens={url: "hf_secret"})
        trusted._settings = WeightsSettings.model_validate({"tokens": {url: "env:HF"}})
        await refused(plain, f"{url}/404?token=secret", "file_download_error", "its server answered 404.")
        for status in ("401", "403"):
            fault = await refused(plain, f"{url}/{status}?token=secret", "file_download_error", f"answered {status}")
            assert "weights.tokens, for 127.0.0.1" in fault.msg
            assert "secret" not in fault.msg
            await refused(trusted, f"{url}/{status}", "file_download_error", "token that is set for its host")
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["a.safetensors", "README.md", "a.ckpt"], "a.safetensors"),
        (["checkpoint-1/a.safetensors", "pytorch_lora_weights.safetensors"], "pytorch_lora_weights.safetensors"),
        ([], "no .safetensors file"),
        (["README.md", "a.bin"], "no .safetensors file"),
        (["a.safetensors", "deep/b.safetensors"], "a.safetensors, deep/b.safetensors"),
        ([f"{number}.safetensors" for number in range(30)], "and 20 more"),
        (None, "tells nothing"),
    ],
)
async def test_of_a_repository_the_one_file_is_meant(tmp_path: Path, files: list[str] | None, chosen: str) -> None:
    asked: list[str] = []

    def reply(path: str, _: dict[str, str]) -> bytes:
        asked.append(path)
        if path.startswith("/api/"):
            return answer(
                b"{}" if files is None else json.dumps({"siblings": [{"rfilename": f} for f in files]}).encode()
            )
        return answer(GOOD)

    async with serving(reply) as url:
        finds = finder(tmp_path, hub=url)
        if chosen.endswith(".safetensors") and ", " not in chosen:
            for _ in range(2):
                assert (await finds.find("owner/repo", FIELD, "LoRA")).name == SHA256
            assert asked == ["/api/models/owner/repo", f"/owner/repo/resolve/main/{chosen}"]
        else:
            fault = await refused(finds, "owner/repo", "file_download_error", chosen)
            assert "owner/repo" in fault.msg
            assert left(tmp_path) == []


async def test_many_who_ask_for_a_repository_at_once_are_one_listing_and_one_download(tmp_path: Path) -> None:
    asked: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split()[1])
        await asyncio.sleep(0.3)
        writer.write(answer(b'{"siblings": [{"rfilename": "a.safetensors"}]}' if len(asked) == 1 else GOOD))

    async with talking(talk) as url:
        finds = finder(tmp_path, hub=url)
        paths = await asyncio.gather(*(finds.find("owner/repo", FIELD, "LoRA") for _ in range(20)))
    assert {path.name for path in paths} == {SHA256}
    assert asked == ["/api/models/owner/repo", "/owner/repo/resolve/main/a.safetensors"]


async def test_a_file_of_the_hub_by_its_name_and_one_that_is_not_there(tmp_path: Path) -> None:
    known = "/owner/repo/resolve/main/styles/ink.safetensors"
    async with serving(lambda path, _: answer(GOOD) if path == known else answer(b"", "404 Not Found")) as url:
        finds = finder(tmp_path, hub=url)
        assert (await finds.find("owner/repo/styles/ink.safetensors", FIELD, "LoRA")).name == SHA256
        assert (await finds.find(f"{url}/owner/repo/blob/main/styles/ink.safetensors", FIELD, "LoRA")).name == SHA256
        await refused(finds, "owner/repo/other.safetensors", "file_download_error", "404")
        await refused(finds, "owner/other", "file_download_error", "404")


@pytest.mark.parametrize("word", ["nothing", "model.ckpt", "../outside", "x" * 2000, "a\x00b", "owner/repo/folder"])
async def test_what_means_nothing_is_refused(tmp_path: Path, word: str) -> None:
    await refused(finder(tmp_path), word, "feature_not_supported", "not one that is known here")


async def test_an_upload_is_read_from_the_store(tmp_path: Path) -> None:
    finds, files = finder(tmp_path), LocalFiles(tmp_path / "files")
    keys = [f"uploads/{uuid4()}/file.safetensors" for _ in range(4)]
    for key, content in zip(keys, (GOOD, b"\x80\x02", weights(2000)), strict=False):
        await files.put(key, content, "application/octet-stream")
    for _ in range(2):
        assert (await finds.find(stored(keys[0], "e"), FIELD, "LoRA")).name == SHA256
    assert finds._cache.counts.hits == 1
    await refused(finds, stored(keys[1], "e"), "feature_not_supported", "pickle")
    await refused(finds, stored(keys[2], "e"), "file_too_large", "1000 bytes")
    await refused(finds, stored(keys[3], "e"), "file_download_error", "no longer stored")
    assert left(tmp_path) == [SHA256]


async def test_a_full_cache_is_an_error_to_try_again_after(tmp_path: Path) -> None:
    finds = finder(tmp_path, clock=time.time)
    async with serving(lambda path, _: answer(weights(900, int(path[1:])))) as url:
        for number in range(10):
            await finds.find(f"{url}/{number}", FIELD, "LoRA")
        with pytest.raises(PlatformError, match="no room"):
            await finds.find(f"{url}/10", FIELD, "LoRA")
    assert len(left(tmp_path)) == 10


async def test_few_are_fetched_at_once(tmp_path: Path) -> None:
    most = fetching = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most, fetching
        await reader.readuntil(b"\r\n\r\n")
        fetching += 1
        most = max(most, fetching)
        await asyncio.sleep(0.05)
        fetching -= 1
        writer.write(answer(GOOD))

    finds = finder(tmp_path, at_once=2)
    async with talking(talk) as url:
        await asyncio.gather(*(finds.find(f"{url}/{number}", FIELD, "LoRA") for number in range(6)))
    assert most == 2


async def test_slow_addresses_of_one_owner_leave_room_for_another(tmp_path: Path) -> None:
    """Also for one that it asks for last, and where what it waits for is in the cache."""
    slow, begun, go_on = 0, asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal slow
        if b"slow" in (await reader.readuntil(b"\r\n\r\n")).splitlines()[0]:
            slow += 1
            begun.set()
            await go_on.wait()
        writer.write(answer(GOOD))

    finds = finder(tmp_path, at_once=4, grace_s=60.0)
    async with talking(talk) as url, asyncio.timeout(20):
        await finds.find(f"{url}/known", FIELD, "LoRA", "one")
        names = [*(f"{url}/slow/{number}" for number in range(24)), f"{url}/both"]
        asked = [asyncio.create_task(finds.find(name, FIELD, "LoRA", "one")) for name in names]
        try:
            await begun.wait()
            for name in (f"{url}/own", f"{url}/both"):
                assert (await finds.find(name, FIELD, "LoRA", "other")).name == SHA256
            assert (await finds.find(f"{url}/known", FIELD, "LoRA", "one")).name == SHA256
            assert slow <= 2
        finally:
            go_on.set()
        await asyncio.gather(*asked)
