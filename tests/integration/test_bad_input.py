"""What is wrong with a request is said in fal's shape, and the next request is answered."""

import base64
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import pytest

from tests.integration.calls import FAST, FAST_IMAGE_TO_IMAGE, FOOOCUS, SMALL, result, run, submit
from tests.integration.conftest import files_on_loopback

pytestmark = pytest.mark.cluster

TO_IMAGE = {"prompt": "a rocket", "num_inference_steps": 1}
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(autouse=True)
def _the_next_request_is_answered(client: httpx2.Client) -> Iterator[None]:
    yield
    assert run(client, FAST, {**SMALL, "num_inference_steps": 1})["images"]


def inline(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64," + base64.b64encode(content).decode()


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares its size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def assert_refused(answer: httpx2.Response, type: str, loc: list[str | int]) -> None:
    """fal's list of faults, with one entry."""
    assert answer.status_code == 422, answer.text
    (entry,) = answer.json()["detail"]
    assert (entry["type"], entry["loc"]) == (type, ["body", *loc])
    assert entry["msg"]
    assert entry["url"].endswith(f"#{type}")
    assert answer.headers["x-fal-retryable"] == "false"
    assert answer.headers["x-fal-request-id"]


@pytest.mark.parametrize(
    ("endpoint", "input", "type", "loc"),
    [
        (FAST, {}, "missing", ["prompt"]),
        (FAST, {**SMALL, "format": "gif"}, "one_of", ["format"]),
        (FAST, {**SMALL, "prompt": "😀" * 10_000}, "sequence_too_long", ["prompt"]),
        (FOOOCUS, {"negative_prompt": "a\n" * 5_000}, "sequence_too_long", ["negative_prompt"]),
        (FOOOCUS, {"prompt": "(a:1e308)"}, "less_than_equal", ["prompt"]),
        (FAST, {**SMALL, "image_size": {"width": 52, "height": 256}}, "greater_than_equal", ["image_size", "width"]),
        (
            FAST_IMAGE_TO_IMAGE,
            {**TO_IMAGE, "image_url": "data:image/png;base64,!!!!"},
            "image_load_error",
            ["image_url"],
        ),
        (
            FAST_IMAGE_TO_IMAGE,
            {**TO_IMAGE, "image_url": inline(b"no picture at all")},
            "unsupported_image_format",
            ["image_url"],
        ),
        (
            FAST_IMAGE_TO_IMAGE,
            {**TO_IMAGE, "image_url": inline(png_header(20_000, 15_000))},
            "image_too_large",
            ["image_url"],
        ),
    ],
    ids=["missing", "enum", "emoji", "lines", "weight", "multiple of 8", "base64", "no picture", "300 megapixels"],
)
def test_a_bad_input_is_refused_at_the_door(
    client: httpx2.Client, endpoint: str, input: Mapping[str, Any], type: str, loc: list[str]
) -> None:
    for door in ("", "/queue"):
        assert_refused(client.post(f"{door}/{endpoint}", json=input), type, loc)


def test_prompts_at_their_bounds_are_drawn(client: httpx2.Client) -> None:
    longest = "\n".join(["(a:100)"] * 16 + ["(a:-100)"] * 16)
    assert run(client, FAST, {**SMALL, "prompt": longest, "negative_prompt": longest, "guidance_scale": 4})["images"]


def test_a_picture_whose_address_answers_404_is_refused(client: httpx2.Client) -> None:
    with files_on_loopback({}) as (address, asked):
        input = {**TO_IMAGE, "image_url": f"{address}/nothing.png"}
        assert_refused(client.post(f"/{FAST_IMAGE_TO_IMAGE}", json=input), "file_download_error", ["image_url"])
        queued = result(client, submit(client, FAST_IMAGE_TO_IMAGE, input))
        assert_refused(queued, "file_download_error", ["image_url"])
    assert asked == ["/nothing.png"] * 2


def test_300_megapixels_behind_an_address_are_refused(client: httpx2.Client) -> None:
    with files_on_loopback({"huge.png": png_header(20_000, 15_000)}) as (address, _):
        answer = client.post(f"/{FAST_IMAGE_TO_IMAGE}", json={**TO_IMAGE, "image_url": f"{address}/huge.png"})
    assert_refused(answer, "image_too_large", ["image_url"])


def test_the_metadata_service_is_not_asked(client: httpx2.Client) -> None:
    """Loopback is allowed here, other inside addresses are not; test_serve_local has one that refuses both."""
    input = {**TO_IMAGE, "image_url": "http://169.254.169.254/latest/meta-data"}
    answer = client.post(f"/{FAST_IMAGE_TO_IMAGE}", json=input)
    assert_refused(answer, "file_download_error", ["image_url"])
    assert "not a public one" in answer.json()["detail"][0]["msg"]


@pytest.mark.parametrize("door", ["", "/run", "/queue"])
def test_an_unknown_endpoint_is_named(client: httpx2.Client, door: str) -> None:
    answer = client.post(f"{door}/fal-ai/no-such-model", json={"prompt": "a"})
    assert answer.status_code == 404
    assert "fal-ai/no-such-model" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["", "/status", "/status/stream"])
def test_an_unknown_request_is_not_found(client: httpx2.Client, path: str) -> None:
    answer = client.get(f"/queue/{FAST}/requests/{UNKNOWN}{path}")
    assert answer.status_code == 404
    assert answer.json()["detail"]


def test_an_unknown_request_is_not_cancelled(client: httpx2.Client) -> None:
    answer = client.put(f"/queue/{FAST}/requests/{UNKNOWN}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("door", ["", "/queue"])
def test_30_megabytes_of_json_are_too_much(client: httpx2.Client, door: str) -> None:
    body = b'{"prompt": "' + b"a" * 30_000_000 + b'"}'
    answer = client.post(f"{door}/{FAST}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert isinstance(answer.json()["detail"], str)


def test_a_body_that_is_no_json_is_refused(client: httpx2.Client) -> None:
    answer = client.post(f"/{FAST}", content=b"{", headers={"content-type": "application/json"})
    assert_refused(answer, "json_invalid", [])


def test_a_lora_that_is_none_is_refused_by_what_it_is(client: httpx2.Client) -> None:
    files = {"login?token=secret": b"<!doctype html>", "renamed.safetensors": b"\x80\x02}q\x00."}
    with files_on_loopback(files) as (address, _):
        for path, type in (
            (f"{address}/login?token=secret", "feature_not_supported"),
            (f"{address}/renamed.safetensors", "feature_not_supported"),
            (f"{address}/missing", "file_download_error"),
            ("nothing.safetensors", "feature_not_supported"),
        ):
            answer = client.post(f"/{FOOOCUS}", json={"loras": [{"path": path}]})
            assert_refused(answer, type, ["loras", 0, "path"])
            assert "secret" not in answer.json()["detail"][0]["msg"]
