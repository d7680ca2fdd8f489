"""Data URIs of a spec go into the files store; everything else is kept or refused."""

import asyncio
import base64
import errno
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import pytest
from PIL import Image

from gateway.errors import StoreUnavailable, ValidationErrors
from gateway.files.backends import FolderBlobs, LocalFiles
from gateway.files.store import FileStore
from gateway.http.inputs import LONGEST_ADDRESS, store_inputs
from gateway.picture_sources import LocalFileResolver
from pipelines.spec import Guidance, Picture, Spec, Start, Structure
from tests.gateway.picture_files import png_header, saved

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
PNG = saved(Image.new("RGB", (8, 8), "red"), "PNG")
JPEG = saved(Image.new("RGB", (8, 8), "red"), "JPEG")
IN_BASE64 = "data:image/png;base64," + base64.b64encode(PNG).decode()


def spec(start: str | None, *structures: str) -> Spec:
    pictures: list[Picture] = [
        Structure(kind="PyraCanny", source=source, weight=0.5, field=f"control.{i}.image_url")
        for i, source in enumerate(structures)
    ]
    if start is not None:
        pictures.insert(0, Start(source=start, strength=0.5, field="image_url"))
    return Spec(
        seeds=(1,),
        steps=4,
        sampler="euler",
        schedule="lcm",
        guidance=Guidance(scale=1),
        pictures=tuple(pictures),
    )


async def taken(given: Spec, folder: Path) -> Spec:
    return await store_inputs(given, ID, LocalFiles(folder), max_bytes=2_000, max_pixels=1_000)


async def faults(given: Spec, folder: Path) -> list[tuple[str, tuple[str | int, ...]]]:
    with pytest.raises(ValidationErrors) as caught:
        await taken(given, folder)
    assert _files(folder) == []
    return [(fault.type, fault.loc) for fault in caught.value.errors]


async def test_data_uris_are_stored_and_addresses_stay(tmp_path: Path) -> None:
    percent = "data:image/whatever," + quote(JPEG)
    address = "https://pictures.example/a.png"
    given = spec(IN_BASE64, address, percent)
    found = await taken(given, tmp_path)
    first, second = f"inputs/{ID}/0.png", f"inputs/{ID}/2.jpeg"
    assert found == spec(f"stored:{first}", address, f"stored:{second}")
    stored = [await LocalFiles(tmp_path).get(key) for key in (first, second)]
    assert [file and file.content for file in stored] == [PNG, JPEG]


async def test_pictures_that_are_equal_are_each_stored(tmp_path: Path) -> None:
    first, second = f"inputs/{ID}/0.png", f"inputs/{ID}/2.png"
    given = spec(IN_BASE64, "https://pictures.example/a.png", IN_BASE64, "https://pictures.example/a.png")
    assert [picture.source for picture in (await taken(given, tmp_path)).pictures] == [
        f"stored:{first}",
        "https://pictures.example/a.png",
        f"stored:{second}",
        "https://pictures.example/a.png",
    ]


class Nosy(LocalFileResolver):
    """Remembers what it was asked about."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def key_of(self, url: str) -> str | None:
        self.asked.append(url)
        return None


async def test_only_addresses_of_a_sane_length_are_parsed_as_such(tmp_path: Path) -> None:
    """Parsing keeps what it has seen: a gigabyte of private pictures in every replica of the gateway."""
    own, longest = Nosy(), "https://pictures.example/".ljust(LONGEST_ADDRESS, "a")
    given = spec(IN_BASE64, longest)
    assert (await store_inputs(given, ID, LocalFiles(tmp_path), 2_000, 1_000, own)).pictures[1].source == longest
    assert own.asked == [longest]
    assert await faults(spec(None, longest + "a"), tmp_path / "none") == [
        ("file_download_error", ("control", 0, "image_url"))
    ]


@pytest.mark.parametrize(
    "source",
    [
        "DATA:;base64," + base64.b64encode(PNG).decode(),
        "data:image/png;charset=x;base64," + quote(base64.b64encode(PNG).decode(), safe=""),
        "data:text/plain;base64," + base64.b64encode(PNG).decode(),
        "data:image/png;base64," + base64.encodebytes(PNG).decode(),  # lines of 76, and a newline at the end
        "data:image/png;base64," + base64.encodebytes(PNG).decode().replace("\n", "\r\n"),
        "data:image/png;base64," + quote(base64.encodebytes(PNG).decode()),
        "data:image/png; base64 , " + base64.b64encode(PNG).decode() + "\t",
        "\n  " + IN_BASE64 + " ",
        IN_BASE64.rstrip("="),
    ],
)
async def test_every_form_of_a_data_uri_is_read_and_its_type_not_believed(source: str, tmp_path: Path) -> None:
    assert await taken(spec(source), tmp_path) == spec(f"stored:inputs/{ID}/0.png")


@pytest.mark.parametrize("white", [" ", "\n", "\r\n\t"])
async def test_white_space_round_an_address_is_none_of_it(white: str, tmp_path: Path) -> None:
    given = spec(None, f"{white}https://pictures.example/a.png{white}")
    assert await taken(given, tmp_path) == spec(None, "https://pictures.example/a.png")


async def test_a_spec_without_pictures_stays(tmp_path: Path) -> None:
    assert await taken(spec(None), tmp_path) == spec(None)
    assert _files(tmp_path) == []


@pytest.mark.parametrize(
    ("source", "type"),
    [
        ("data:image/png;base64,@@@", "image_load_error"),
        ("data:image/png;base64,AAAAA", "image_load_error"),
        ("data:image/png;base64,AA=AA===", "image_load_error"),
        ("\n" + "data:image/png;base64,@@@", "image_load_error"),
        ("data:image/png;base64,é", "image_load_error"),
        ("data:image/png,%8", "image_load_error"),
        ("data:image/png;base64," + base64.b64encode(PNG[:20]).decode(), "image_load_error"),
        ("data:image/png;base64,aGVsbG8=", "unsupported_image_format"),
        ("data:image/png;base64,", "unsupported_image_format"),
        ("data:image/png;base64," + base64.b64encode(PNG + bytes(2_000)).decode(), "file_too_large"),
        ("data:image/png;base64," + "A" * 20_000, "file_too_large"),
        ("data:image/png;base64," + base64.b64encode(png_header(20_000, 15_000)).decode(), "image_too_large"),
        ("data:image/png;base64", "file_download_error"),
        (f"stored:inputs/{ID}/0.png", "file_download_error"),
        ("file:///etc/passwd", "file_download_error"),
        ("http://", "file_download_error"),
        ("", "file_download_error"),
    ],
)
async def test_a_fault_names_its_field(source: str, type: str, tmp_path: Path) -> None:
    assert await faults(spec(None, source), tmp_path) == [(type, ("control", 0, "image_url"))]


async def test_all_faults_come_together_and_nothing_is_stored(tmp_path: Path) -> None:
    found = await faults(spec("file:///a", IN_BASE64, "data:,x"), tmp_path)
    assert found == [
        ("file_download_error", ("image_url",)),
        ("unsupported_image_format", ("control", 1, "image_url")),
    ]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


class SlowBlobs(FolderBlobs):
    """Writes when it is let."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked, self.let = threading.Event(), threading.Event()

    def write(self, path: str, file: BinaryIO, notes: Mapping[str, str]) -> None:
        self.asked.set()
        self.let.wait(10)
        super().write(path, file, notes)


async def test_what_is_being_written_when_the_client_leaves_does_not_stay(tmp_path: Path) -> None:
    blobs = SlowBlobs(tmp_path)
    taking = asyncio.create_task(store_inputs(spec(IN_BASE64, IN_BASE64), ID, FileStore(blobs), 2_000, 1_000))
    await asyncio.to_thread(blobs.asked.wait, 10)
    taking.cancel()
    await asyncio.sleep(0.05)
    blobs.let.set()
    with pytest.raises(asyncio.CancelledError):
        await taking
    await asyncio.sleep(0.1)  # what a thread that was left behind would need
    assert _files(tmp_path) == []


class LosingAnswers(FolderBlobs):
    """Writes, and the second time says that it did not."""

    wrote = 0

    def write(self, path: str, file: BinaryIO, notes: Mapping[str, str]) -> None:
        super().write(path, file, notes)
        self.wrote += 1
        if self.wrote == 2:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


async def test_what_was_written_though_the_store_did_not_say_so_does_not_stay(tmp_path: Path) -> None:
    blobs = LosingAnswers(tmp_path)
    with pytest.raises(StoreUnavailable):
        await store_inputs(spec(IN_BASE64, IN_BASE64), ID, FileStore(blobs), 2_000, 1_000)
    assert (blobs.wrote, _files(tmp_path)) == (2, [])
