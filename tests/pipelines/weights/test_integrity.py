"""A family's files are held to what was recorded of them when they came."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipelines.catalogue import Catalogue
from pipelines.drawing import Drawer
from pipelines.errors import WeightsFault
from pipelines.settings import DrawingSettings
from pipelines.weights.integrity import check_files, header_digest, sha256_of

NAME = "toy.safetensors"


def rewrite(path: Path, content: bytes) -> None:
    """As a fault of the disk would: the time of the last write stays."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / NAME
    save_file({"one": torch.arange(4.0), "two": torch.zeros(2, 3)}, path)
    record = {
        "size": path.stat().st_size,
        "sha256": sha256_of(path),
        "header": header_digest(path),
        "modified_ns": path.stat().st_mtime_ns,
    }
    family = {"name": "toy", "version": "1", "checkpoint": NAME, "files": {NAME: record}}
    (tmp_path / "family.json").write_text(json.dumps(family))
    return tmp_path


def check(folder: Path, *, all_bytes: bool = False) -> None:
    check_files(Catalogue.open(folder), all_bytes)


def last_byte_changed(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def test_files_as_they_came_are_let_through(folder: Path) -> None:
    check(folder)
    check(folder, all_bytes=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda content: content[:-1], "bytes and had"),
        (lambda content: content + b"\0", "bytes and had"),
        (lambda content: content.replace(b'"one"', b'"six"'), "another header"),
        (lambda content: b"\xff" * 8 + content[8:], "as safetensors"),
    ],
    ids=["shorter", "longer", "another name in the header", "no header"],
)
def test_a_changed_size_or_header_is_found_at_every_load(
    folder: Path, change: Callable[[bytes], bytes], told: str
) -> None:
    rewrite(folder / NAME, change((folder / NAME).read_bytes()))
    with pytest.raises(WeightsFault, match=rf"{NAME} of the family toy .*{told}.*`python -m models verify"):
        check(folder)


def test_a_changed_byte_is_found_when_all_are_read(folder: Path) -> None:
    rewrite(folder / NAME, last_byte_changed((folder / NAME).read_bytes()))
    check(folder)
    with pytest.raises(WeightsFault, match="other bytes"):
        check(folder, all_bytes=True)


def test_a_file_that_was_written_to_since_is_read_whole(folder: Path) -> None:
    path = folder / NAME
    os.utime(path, ns=(1, 1))
    check(folder)
    path.write_bytes(last_byte_changed(path.read_bytes()))
    with pytest.raises(WeightsFault, match="other bytes"):
        check(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    catalogue = Catalogue.open(folder)
    (folder / NAME).unlink()
    with pytest.raises(WeightsFault, match=f"{NAME} .* is missing"):
        check_files(catalogue, all_bytes=False)


def test_a_drawer_opens_no_family_whose_files_have_changed(folder: Path) -> None:
    rewrite(folder / NAME, last_byte_changed((folder / NAME).read_bytes()))
    with pytest.raises(WeightsFault, match="other bytes"):
        Drawer.open(DrawingSettings(family=folder, verify_at_load=True))


def test_a_truncated_file_has_no_header_digest(folder: Path) -> None:
    path = folder / NAME
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="is cut short"):
        header_digest(path)
