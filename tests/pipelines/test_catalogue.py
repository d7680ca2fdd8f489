"""The catalogue answers names, addresses and roles, and refuses a family that is not whole."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from gateway.endpoints.fields import OFFSET_LORA
from pipelines.catalogue import Catalogue
from pipelines.errors import WeightsFault
from pipelines.parts import Part

WHOLE: dict[str, Any] = {
    "name": "toy",
    "version": "1",
    "checkpoint": "toy.safetensors",
    "config": "config",
    "loras": {
        "one.safetensors": {"file": "one.safetensors", "addresses": ["https://hub.example/a/resolve/main/one.st"]}
    },
    "parts": {"canny": "canny.safetensors", "safety_checker": "checker"},
}


def family(folder: Path, **changes: Any) -> Path:
    for name in ("toy.safetensors", "one.safetensors", "canny.safetensors"):
        (folder / name).touch()
    for name in ("config", "checker"):
        (folder / name).mkdir()
    (folder / "family.json").write_text(json.dumps(WHOLE | changes))
    return folder


def test_a_lora_is_found_by_name_stem_and_address(tmp_path: Path) -> None:
    catalogue = Catalogue.open(family(tmp_path))
    for source in (
        "one.safetensors",
        "one",
        "https://hub.example/a/resolve/main/one.st",
        "https://HUB.example/a/blob/main/one.st?download=true",
    ):
        assert catalogue.lora(source) == tmp_path / "one.safetensors"


def test_a_lora_of_the_folder_comes_after_the_familys_own(tmp_path: Path) -> None:
    more = tmp_path / "more"
    (more / "styles").mkdir(parents=True)
    for name in ("one.safetensors", "styles/ink.safetensors", "model.ckpt"):
        (more / name).touch()
    catalogue = Catalogue.open(family(tmp_path), loras_folder=more)
    assert catalogue.lora("one") == tmp_path / "one.safetensors"
    assert catalogue.lora("styles/ink") == catalogue.lora("styles/ink.safetensors") == more / "styles/ink.safetensors"
    assert catalogue.lora("ink") is catalogue.lora("model.ckpt") is catalogue.lora("../one") is None


def test_a_lora_of_the_usual_hub_is_found_by_its_name_there(tmp_path: Path) -> None:
    entry = {"file": "one.safetensors", "addresses": ["https://huggingface.co/owner/repo/resolve/main/deep/one.st"]}
    catalogue = Catalogue.open(family(tmp_path, loras={"one": entry}))
    assert catalogue.lora("owner/repo/deep/one.st") == tmp_path / "one.safetensors"
    assert catalogue.lora("owner/repo/one.st") is None


@pytest.mark.parametrize("source", ["two", "", "https://hub.example/a/resolve/main/two.st", "../one.safetensors"])
def test_other_sources_are_not_answered(tmp_path: Path, source: str) -> None:
    assert Catalogue.open(family(tmp_path)).lora(source) is None


def test_an_embedding_is_found_by_name_in_the_folders_and_nowhere_else(tmp_path: Path) -> None:
    own, more = tmp_path / "toy" / "embeddings", tmp_path / "more"
    for place in (own / "a", own / "b", more / "b", more / "sub" / "c", tmp_path / "outside"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.with_suffix(".safetensors").touch()
    (own / "d.pt").touch()
    catalogue = Catalogue.open(family(tmp_path / "toy"), more)
    assert catalogue.embedding("a") == catalogue.embedding("a.safetensors") == own / "a.safetensors"
    assert catalogue.embedding("b") == more / "b.safetensors"
    assert catalogue.embedding("sub/c") == more / "sub" / "c.safetensors"
    outside = ("../outside", str(tmp_path / "outside"), "sub/../../outside", "sub/./c", "..\\outside", "sub//c")
    for name in (*outside, "", "c", "d", "d.pt", "sub", "a\n", "a" * 1000):
        assert catalogue.embedding(name) is None
    assert Catalogue.open(tmp_path / "toy").embedding("sub/c") is None


def test_a_part_is_found_by_its_name(tmp_path: Path) -> None:
    catalogue = Catalogue.open(family(tmp_path))
    assert catalogue.part("canny") == tmp_path / "canny.safetensors"
    assert catalogue.has("canny")


def test_a_missing_part_names_the_command_that_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOOOCUS_FAMILIES", str(tmp_path))
    (tmp_path / "toy").mkdir()
    catalogue = Catalogue.open(family(tmp_path / "toy"))
    assert not catalogue.has("cpds")
    assert "cpds" in catalogue.missing
    with pytest.raises(WeightsFault, match="`python -m models pull cpds --family toy`"):
        catalogue.part("cpds")


def test_a_command_goes_by_the_folder_and_says_what_is_to_be_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "renamed").mkdir()
    catalogue = Catalogue.open(family(tmp_path / "renamed"))  # `toy` by its file
    assert catalogue.command_for("cpds") == "python -m models pull cpds --family PATH/renamed"
    monkeypatch.setenv("FOOOCUS_FAMILIES", str(tmp_path))
    assert catalogue.command_for("cpds") == "python -m models pull cpds --family renamed"
    assert (
        catalogue.command_for("expansion")
        == "python -m models pull expansion --family renamed --from FOLDER --accept-unpinned"
    )
    with pytest.raises(WeightsFault, match=r"lacks safety_checker_v2: `.* --from FOLDER` brings it\."):
        catalogue.part("safety_checker_v2")


def test_a_family_may_have_its_checkpoint_alone(tmp_path: Path) -> None:
    catalogue = Catalogue.open(family(tmp_path, parts={}, loras={}))
    assert len(catalogue.missing) == len(get_args(Part))


@pytest.mark.parametrize(
    "change",
    [
        {"checkpoint": "missing.safetensors"},
        {"checkpoint": "../outside.safetensors"},
        {"parts": {"canny": "/etc/hostname"}},
        {"parts": {"depth": "canny.safetensors"}},
        {"surprise": 1},
        {"version": 2},
    ],
    ids=str,
)
def test_a_family_that_is_not_whole_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "outside.safetensors").touch()
    inner = tmp_path / "family"
    inner.mkdir()
    with pytest.raises(WeightsFault):
        Catalogue.open(family(inner, **change))


def test_a_folder_without_a_family_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsFault, match=r"family\.json"):
        Catalogue.open(tmp_path)


def test_the_pocket_family_answers_what_the_schemas_ask_for_by_default(pocket_family_folder: Path) -> None:
    catalogue = Catalogue.open(pocket_family_folder)
    for source in (OFFSET_LORA, "sdxl_lcm_lora.safetensors", "sdxl_lightning_4step_lora.safetensors"):
        assert catalogue.lora(source) is not None
