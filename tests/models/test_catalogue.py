"""The catalogue says what section 9.1 of fooocus-facts.md says, row by row, and presets are made of it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest

from gateway.endpoints.base import NEEDING
from models.catalogue import ENTRIES, Entry, find
from models.errors import ToolFault
from models.pull_presets import PRESETS, entries_of
from pipelines.needs import LORAS
from pipelines.parts import Part

FACTS = Path(__file__).parents[2] / "docs" / "reference" / "fooocus-facts.md"
SEVERAL: Mapping[str, tuple[str, ...]] = {
    "DreamShaperXL_Turbo_v2_1, ponyDiffusionV6XL (+ _vae 334,641,162 B), playground-v2.5-1024px-aesthetic.fp16": (
        "DreamShaperXL_Turbo_v2_1.safetensors",
        "ponyDiffusionV6XL.safetensors",
        "ponyDiffusionV6XL_vae.safetensors",
        "playground-v2.5-1024px-aesthetic.fp16.safetensors",
    ),
    "xlvaeapp.pth, vaeapp_sd15.pt (saved as .pth)": ("xlvaeapp.pth", "vaeapp_sd15.pt"),
    "sam_vit_b_01ec64 / l_0b3195 / h_4b8939 .pth": (
        "sam_vit_b_01ec64.pth",
        "sam_vit_l_0b3195.pth",
        "sam_vit_h_4b8939.pth",
    ),
    "u2net, u2netp, u2net_human_seg, u2net_cloth_seg, silueta, isnet-general-use, isnet-anime (.onnx)": (
        *("u2net.onnx", "u2netp.onnx", "u2net_human_seg.onnx", "u2net_cloth_seg.onnx", "silueta.onnx"),
        *("isnet-general-use.onnx", "isnet-anime.onnx"),
    ),
}
"""The rows of several files, and how these are called."""


def rows() -> list[tuple[str, ...]]:
    """The cells of the table: file, repository, size, used for, format."""
    section = FACTS.read_text(encoding="utf-8").split("### 9.1 Table")[1].split("### 9.2")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[1:]]


def files_of(cell: str) -> tuple[str, ...]:
    return SEVERAL.get(cell) or (cell.partition(" (")[0],)


def test_it_has_the_files_of_the_table_in_its_order_and_two_that_fooocus_does_not_use() -> None:
    assert len(rows()) > 25
    *published, detector, second_checker = [entry.file for entry in ENTRIES]
    assert published == [file for row in rows() for file in files_of(row[0])]
    assert (detector, second_checker) == ("yunet_n_dynamic.onnx", "safety_checker_v2.safetensors")


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_a_row_is_as_the_table_has_it(row: tuple[str, ...]) -> None:
    cell, repository, size, used_for, kind = row
    for file in files_of(cell):
        entry = find(file)
        assert entry.needed_for == used_for
        assert repository.startswith(entry.repository or entry.elsewhere)
        assert (entry.format == "pickle") == kind.startswith("pickle")
        assert entry.non_commercial == ("licence" in kind)
        assert ("openrail" in repository) == (entry.licence == "openrail")
        if entry.path is not None:
            assert entry.path == (f"fav/{file}" if "(fav/)" in repository else file)
        stated = cell + " " + size
        if entry.size is not None:
            assert f"{entry.size:,}" in stated
        elif entry.about is not None:
            assert entry.about == re.sub(r" (\(.*\)|\[\?\])", "", size)
        else:
            assert size in ("", "[?]")


def test_what_no_document_states_is_none() -> None:
    assert [entry.name for entry in ENTRIES if entry.sha256 or entry.revision] == []
    assert {entry.licence for entry in ENTRIES} == {None, "openrail", "CC BY-NC 4.0", "Apache-2.0"}


def test_names_are_found_in_all_their_forms_and_others_are_not() -> None:
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)
    for source in ("lcm_lora", "sdxl_lcm_lora.safetensors", "sdxl_lcm_lora"):
        assert find(source).name == "lcm_lora"
    with pytest.raises(ToolFault, match=r"Nothing is called 'nonsense'.*models list"):
        find("nonsense")


@pytest.mark.parametrize("part", get_args(Part))
def test_every_part_of_a_family_is_found(part: Part) -> None:
    assert find(part).part == part


@pytest.mark.parametrize(("stem", "name"), LORAS.items())
def test_a_refusal_names_a_lora_as_the_tool_does(stem: str, name: str) -> None:
    entry = find(name)
    assert (entry.name, entry.file, entry.use) == (name, f"{stem}.safetensors", "lora")


def test_what_is_left_out_by_default_is_what_the_tool_brings() -> None:
    assert {find(default.part).name for default in NEEDING.values()} == {"safety_checker", "offset_lora", "refiner"}


def test_presets_are_one_checkpoint_and_nothing_non_commercial() -> None:
    assert set(PRESETS) == {"default", "realistic", "anime", "lcm", "lightning", "sai"}
    for name in PRESETS:
        entries = entries_of((name,))
        assert [entry.use for entry in entries].count("checkpoint") == 1
        assert not any(entry.non_commercial or entry.use is None or entry.repository is None for entry in entries)


def test_places_in_a_family_differ() -> None:
    places = [entry.place for entry in ENTRIES if entry.use]
    assert len(set(places)) == len(places)


def test_a_pickle_has_its_place_as_what_it_becomes() -> None:
    def place(name: str) -> str:
        entry: Entry = find(name)
        return entry.place

    assert place("inpaint_patch") == "inpaint/inpaint_v26.fooocus.patch.safetensors"
    assert place("inpaint_head") == "inpaint/fooocus_inpaint_head.safetensors"
    assert place("safety_checker") == "safety_checker/model.safetensors"
