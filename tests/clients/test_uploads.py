"""Files uploaded by the published clients, in every way that they know, and drawn over by their address."""

import base64
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import fal_client
import httpx2
import pytest
from fal_client import client as fal
from PIL import Image

from tests.clients.conftest import PHOTOGRAPHS, Drive
from tests.clients.outputs import assert_fast_output

pytestmark = [pytest.mark.clients, pytest.mark.cluster]

ENDPOINT = "fal-ai/fast-fooocus-sdxl/image-to-image"
PROMPT = "a blue circle"
SEED = 3
MIB = 2**20
INPUT = {"prompt": PROMPT, "seed": SEED, "num_inference_steps": 1}
SIZE = (128, 96)


def picture() -> bytes:
    file = BytesIO()
    Image.effect_noise(SIZE, 60).convert("RGB").save(file, "PNG")
    return file.getvalue()


def sent(content: bytes, **rest: object) -> dict[str, object]:
    return {"base64": base64.b64encode(content).decode(), "type": "image/png", "name": "a.png", **rest}


@pytest.fixture
def python(base: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[fal_client.SyncClient]:
    """A client that has asked for no token yet: the address for tokens is kept by who has.

    It makes a connection for each upload and closes none, and an open socket is a warning.
    """
    connections: list[Any] = []
    connect = fal_client.SyncClient._get_cdn_client

    def noted(self: fal_client.SyncClient) -> Any:
        connections.append(connect(self))
        return connections[-1]

    monkeypatch.setattr(fal_client.SyncClient, "_get_cdn_client", noted)
    client = fal_client.SyncClient(key="any:key")
    yield client
    for connection in (client._client, *connections):
        connection.close()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fal, "MULTIPART_THRESHOLD", 1000)
    monkeypatch.setattr(fal, "MULTIPART_CHUNK_SIZE", 4096)


@pytest.mark.parametrize("repository", ["fal_v3", "fal"])
def test_python_uploads_and_draws_over_it(
    python: fal_client.SyncClient, base: str, repository: str, caplog: pytest.LogCaptureFixture
) -> None:
    content = picture()
    url = python.upload(content, "image/png", "a.png", repository=repository)  # type: ignore[arg-type]
    assert url.startswith(f"{base}/cdn/files/")
    assert httpx2.get(url).content == content
    assert "falling back" not in caplog.text  # as the client does without a word to its caller
    assert_fast_output(python.subscribe(ENDPOINT, arguments={**INPUT, "image_url": url}), SIZE, SEED, PROMPT)


@pytest.mark.usefixtures("small_parts")
def test_python_uploads_in_parts_at_once(python: fal_client.SyncClient) -> None:
    path = Path(PHOTOGRAPHS / "chelsea.png")
    assert path.stat().st_size > 20 * 4096
    url = python.upload_file(path)
    answer = httpx2.get(url)
    assert (answer.content, answer.headers["content-type"]) == (path.read_bytes(), "image/png")
    assert "chelsea.png" in answer.headers["content-disposition"]


@pytest.mark.usefixtures("small_parts")
async def test_async_python_uploads_in_parts(base: str, async_client: fal_client.AsyncClient) -> None:
    content = picture() * 3
    url = await async_client.upload(content, "image/png", "a.png")
    assert httpx2.get(url).content == content


def test_python_says_how_long_a_file_is_kept(python: fal_client.SyncClient) -> None:
    url = python.upload(picture(), "image/png", lifecycle=fal_client.StorageSettings(expires_in="1h"))
    assert "max-age=35" in httpx2.get(url).headers["cache-control"]  # 3,600 s, less a few


@pytest.mark.parametrize(
    ("client", "way"), [("new", "middleware"), ("new", "proxy"), ("new", "fetch"), ("old", "middleware")]
)
def test_javascript_uploads(drive: Drive, client: str, way: str) -> None:
    content = picture()
    url = drive(client, way, "upload", ENDPOINT, {}, file=sent(content))["url"]
    answer = httpx2.get(url)
    assert (answer.content, answer.headers["content-type"]) == (content, "image/png")


@pytest.mark.parametrize("client", ["new", "old"])
def test_javascript_uploads_what_stands_in_an_input(drive: Drive, client: str) -> None:
    done = drive(client, "middleware", "blob", ENDPOINT, INPUT, file=sent(picture()))
    assert_fast_output(done["output"], SIZE, SEED, PROMPT)


def test_javascript_uploads_a_large_file_in_parts(drive: Drive) -> None:
    """The threshold is the client's own, 90 MiB."""
    piece = bytes(range(256)) * 4096
    url = drive("new", "middleware", "upload", ENDPOINT, {}, file=sent(piece, repeat=91))["url"]
    answer = httpx2.head(url)
    assert int(answer.headers["content-length"]) == 91 * MIB
    end = httpx2.get(url, headers={"range": f"bytes={91 * MIB - 300}-"})
    assert (end.status_code, end.content) == (206, piece[-300:])
