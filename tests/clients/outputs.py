"""What every output of the endpoints must be, whichever client brought it."""

import io
from collections.abc import Mapping
from typing import Any

import httpx2
from PIL import Image

IMAGE_FIELDS = frozenset({"url", "content_type", "file_name", "file_size", "width", "height"})


def download(image: Mapping[str, Any]) -> bytes:
    """The file behind an image of an output, checked against what the output says of it."""
    assert set(image) >= IMAGE_FIELDS
    answer = httpx2.get(image["url"], timeout=30)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == image["content_type"]
    assert len(answer.content) == image["file_size"]
    return answer.content


def picture(image: Mapping[str, Any], format: str = "JPEG") -> Image.Image:
    """The decoded picture of an output's image."""
    with Image.open(io.BytesIO(download(image))) as found:
        found.load()
        assert found.format == format
        assert found.size == (image["width"], image["height"])
        return found.convert("RGB")


def assert_fooocus_output(output: Mapping[str, Any], size: tuple[int, int]) -> None:
    """The output schema of the four `fal-ai/fooocus*` endpoints, with one JPEG of the given width and height."""
    assert set(output) == {"images", "timings", "has_nsfw_concepts"}
    _assert_common(output, size)


def assert_fast_output(output: Mapping[str, Any], size: tuple[int, int], seed: int, prompt: str) -> None:
    """The output schema of the `fal-ai/fast-fooocus-sdxl*` endpoints, likewise. The prompt may have been expanded."""
    assert set(output) == {"images", "timings", "has_nsfw_concepts", "seed", "prompt"}
    assert output["seed"] == seed
    assert output["prompt"] == prompt or output["prompt"].startswith(f"{prompt}, ")
    _assert_common(output, size)


def _assert_common(output: Mapping[str, Any], size: tuple[int, int]) -> None:
    (image,) = output["images"]
    assert image["content_type"] == "image/jpeg"
    assert picture(image).size == size
    assert len(output["has_nsfw_concepts"]) == 1
    assert all(isinstance(flag, bool) for flag in output["has_nsfw_concepts"])
    assert output["timings"]
    assert all(seconds >= 0 for seconds in output["timings"].values())
