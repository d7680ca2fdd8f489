"""Pictures of a spec are read from the files store or from an address."""

from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image

from gateway.errors import ModelError
from gateway.files.backends import LocalFiles
from gateway.images.codec import Pixels
from gateway.images.fetch import Fetcher, FetchLimits
from gateway.picture_sources import ImageLoader
from tests.gateway.images.test_fetch import LOCAL, answer, serving
from tests.gateway.picture_files import saved

RED = saved(Image.new("RGB", (8, 4), "red"), "PNG")


async def read(reader: ImageLoader, source: str, field: str) -> Pixels:
    return await reader.decode(await reader.fetch(source, field), field)


def reader(folder: Path, limits: FetchLimits = LOCAL, max_bytes: int = 10_000) -> ImageLoader:
    return ImageLoader(LocalFiles(folder), Fetcher(limits), max_bytes, max_pixels=100)


async def test_a_stored_picture_is_decoded(tmp_path: Path) -> None:
    key = f"inputs/{uuid4()}/0.png"
    await LocalFiles(tmp_path).put(key, RED, "image/png")
    pixels = await read(reader(tmp_path), f"stored:{key}", "image_url")
    assert pixels.shape == (4, 8, 3)
    assert pixels[0, 0].tolist() == [255, 0, 0]


async def test_an_address_is_fetched_and_decoded(tmp_path: Path) -> None:
    async with serving(lambda *_: answer(RED)) as url:
        assert (await read(reader(tmp_path), url, "image_url")).shape == (4, 8, 3)


@pytest.mark.parametrize(
    ("body", "max_bytes", "type"),
    [
        (RED, 10, "file_too_large"),
        (b"<html>", 10_000, "unsupported_image_format"),
        (RED[:50], 10_000, "image_load_error"),
        (saved(Image.new("L", (20, 20)), "PNG"), 10_000, "image_too_large"),
    ],
)
async def test_faults_name_the_field(tmp_path: Path, body: bytes, max_bytes: int, type: str) -> None:
    async with serving(lambda *_: answer(body)) as url:
        with pytest.raises(ModelError) as caught:
            await read(reader(tmp_path, max_bytes=max_bytes), url, "image_url")
    assert (caught.value.type, caught.value.loc) == (type, ("image_url",))


async def test_a_stored_picture_that_has_gone_is_an_error_of_the_field(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        await read(reader(tmp_path), f"stored:inputs/{uuid4()}/0.png", "image_url")
    assert (caught.value.type, caught.value.loc) == ("file_download_error", ("image_url",))
