"""Produced pictures are public, with headers that keep a browser from guessing; what clients sent is not."""

import httpx2
import pytest

from gateway.app import Parts

NAME = "00000000-0000-4000-8000-000000000000/0.png"
CONTENT = b"\x89PNG\r\n\x1a\n picture"


@pytest.fixture(autouse=True)
async def _pictures(parts: Parts) -> None:
    for folder in ("inputs", "outputs"):
        await parts.files.put(f"{folder}/{NAME}", CONTENT, "image/png")


async def test_an_output_is_served(client: httpx2.AsyncClient) -> None:
    answer = await client.get(f"/files/outputs/{NAME}")
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == 'inline; filename="0.png"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "immutable" in answer.headers["cache-control"]


async def test_head_has_the_same_headers(server: str) -> None:
    async with httpx2.AsyncClient(base_url=server) as client:
        answer = await client.head(f"/files/outputs/{NAME}")
    assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(CONTENT)))


async def test_a_known_picture_is_not_sent_again(client: httpx2.AsyncClient) -> None:
    etag = (await client.get(f"/files/outputs/{NAME}")).headers["etag"]
    answer = await client.get(f"/files/outputs/{NAME}", headers={"if-none-match": etag})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)


@pytest.mark.parametrize(
    "key",
    [
        f"inputs/{NAME}",
        f"outputs/../inputs/{NAME}",
        f"outputs/%2e%2e/inputs/{NAME}",
        f"outputs/{NAME[:-5]}1.png",
        "outputs/../../etc/passwd",
        "outputs/",
        "",
    ],
)
async def test_nothing_else_is(client: httpx2.AsyncClient, key: str) -> None:
    answer = await client.get(f"/files/{key}")
    assert answer.status_code == 404
    assert answer.json()["detail"]


async def test_bytes_that_are_not_there_are_refused_as_everything_is(client: httpx2.AsyncClient) -> None:
    answer = await client.get(f"/files/outputs/{NAME}", headers={"range": f"bytes={len(CONTENT)}-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(CONTENT)}")
    assert (answer.headers["content-type"], answer.json()["error_type"]) == ("application/json", "bad_request")
