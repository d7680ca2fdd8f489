"""What a spec needs of its family is told before anything is spent on it, with the client's field and a command."""

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from gateway.endpoints.fields import OFFSET_LORA
from pipelines.catalogue import Catalogue, FamilyFile
from pipelines.needs import ADAPTERS, CONTROLS, MAX_LORAS, PATCHES, faults, loras_of
from pipelines.spec import (
    Canvas,
    Embedding,
    InpaintEngine,
    Lora,
    Reference,
    ReferenceKind,
    Spec,
    Start,
    Structure,
    StructureKind,
    Upscale,
)
from tests.pipelines import studio

EDGES = Structure(kind="PyraCanny", source="a", field="image_prompt_1.image_url")
SHADES = Structure(kind="CPDS", source="b", field="image_prompt_2.image_url")


def spec(**changes: Any) -> Spec:
    return studio.spec(**{"loras": (), "check_safety": False, **changes})


@pytest.fixture(autouse=True)
def families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy").mkdir()
    monkeypatch.setenv("FOOOCUS_FAMILIES", str(tmp_path))


def family(folder: Path, **has: Any) -> Catalogue:
    """A catalogue of the family `toy` among the others, whose parts and LoRAs are all the same file."""
    return Catalogue((folder / "toy").resolve(), FamilyFile(name="toy", version="1", checkpoint=".", **has))


def test_the_checkpoint_is_enough_for_text_and_a_start(tmp_path: Path) -> None:
    assert faults(spec(pictures=(Start(source="x", strength=0.5),)), family(tmp_path)) == []


def test_a_token_of_two_embeddings_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    both = tuple(Embedding(source="a", field=f"embeddings.{at}.path") for at in range(2))
    (fault,) = faults(spec(embeddings=both), family(tmp_path))
    assert (fault.type, fault.field) == ("value_error", "embeddings.1.tokens")


@pytest.mark.parametrize(
    ("change", "part", "field"),
    [
        ({"pictures": (EDGES,)}, "canny", "image_prompt_1.image_url"),
        ({"pictures": (SHADES,)}, "cpds", "image_prompt_2.image_url"),
        ({"pictures": (Upscale(source="x", factor=2, field="uov_image_url"),)}, "upscaler", "uov_image_url"),
        ({"check_safety": True}, "safety_checker", "enable_safety_checker"),
    ],
    ids=str,
)
def test_a_missing_part_is_refused_by_its_field_with_the_command_that_brings_it(
    tmp_path: Path, change: dict[str, Any], part: Any, field: str
) -> None:
    (fault,) = faults(spec(**change), family(tmp_path))
    assert (fault.type, fault.field) == ("feature_not_supported", field)
    assert f"toy lacks {part}" in fault.msg
    assert f"`python -m models pull {part} --family toy" in fault.msg
    assert str(tmp_path) not in fault.msg
    assert faults(spec(**change), family(tmp_path, parts={part: "."})) == []


def test_the_second_safety_checker_is_needed_where_it_is_asked_for_alone(tmp_path: Path) -> None:
    wanted = spec(check_safety=True, safety_checker_version="v2")
    (fault,) = faults(wanted, family(tmp_path, parts={"safety_checker": "."}))
    assert (fault.type, fault.field) == ("feature_not_supported", "safety_checker_version")
    assert "toy lacks safety_checker_v2" in fault.msg
    assert faults(wanted, family(tmp_path, parts={"safety_checker_v2": "."})) == []
    assert faults(spec(check_safety=False, safety_checker_version="v2"), family(tmp_path)) == []


@pytest.mark.parametrize(
    ("engine", "patch"), [("v1", "inpaint_patch_v1"), ("v2.5", "inpaint_patch_v25"), ("v2.6", "inpaint_patch")]
)
def test_a_version_of_the_inpaint_model_needs_its_patch_and_the_head_of_all(
    tmp_path: Path, engine: Any, patch: Any
) -> None:
    canvas = Canvas(source="x", field="inpaint_image_url", engine=engine)
    named = canvas.model_copy(update={"engine_field": "inpaint_engine"})
    for field, each in ((canvas.field, canvas), ("inpaint_engine", named)):
        head, lacking = faults(spec(pictures=(each,)), family(tmp_path))
        assert (head.field, lacking.field) == (field, field)
        assert "`python -m models pull inpaint_head --family toy --accept-unpinned`" in head.msg
        assert f"`python -m models pull {patch} --family toy --accept-unpinned`" in lacking.msg
    assert faults(spec(pictures=(canvas,)), family(tmp_path, parts={"inpaint_head": ".", patch: "."})) == []


def test_inpainting_without_a_model_needs_none(tmp_path: Path) -> None:
    assert faults(spec(pictures=(Canvas(source="x", engine="None"),)), family(tmp_path)) == []


@pytest.mark.parametrize(("kind", "adapter"), [("ImagePrompt", "image_prompt"), ("FaceSwap", "face_prompt")])
def test_a_reference_needs_its_adapter_and_what_every_adapter_does(
    tmp_path: Path, kind: ReferenceKind, adapter: str
) -> None:
    wanted = spec(pictures=(Reference(kind=kind, source="a", field="image_prompt_3.image_url"),))
    found = faults(wanted, family(tmp_path))
    assert {fault.field for fault in found} == {"image_prompt_3.image_url"}
    parts = (adapter, "vision", "image_prompt_negative")
    for fault, part in zip(found, parts, strict=True):
        assert f"`python -m models pull {part} --family toy" in fault.msg
    assert faults(wanted, family(tmp_path, parts=dict.fromkeys(parts, "."))) == []


def test_every_missing_part_is_named_at_once(tmp_path: Path) -> None:
    wanted = spec(pictures=(EDGES, SHADES), check_safety=True, loras=(Lora(source="x", scale=1, field="loras.0.path"),))
    fields = [fault.field for fault in faults(wanted, family(tmp_path))]
    assert fields == ["loras.0.path", EDGES.field, SHADES.field, "enable_safety_checker"]


@pytest.mark.parametrize("change", [{"weight": 0.0}, {"stop_at": 0.0}], ids=str)
def test_a_picture_that_does_not_act_needs_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    look = Reference(kind="ImagePrompt", source="a")
    pictures = tuple(each.model_copy(update=change) for each in (EDGES, look))
    assert faults(spec(pictures=pictures), family(tmp_path)) == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("sdxl_lcm_lora.safetensors", "lcm_lora"),
        ("sdxl_lcm_lora", "lcm_lora"),
        ("sdxl_lightning_4step_lora.safetensors", "lightning_lora"),
        (OFFSET_LORA, "offset_lora"),
    ],
)
def test_a_well_known_lora_has_a_command_too(tmp_path: Path, source: str, name: str) -> None:
    wanted = spec(loras=(Lora(source=source, scale=1.0, field="loras.0.path"),))
    (fault,) = faults(wanted, family(tmp_path))
    assert (fault.type, fault.field) == ("feature_not_supported", "loras.0.path")
    assert f"`python -m models pull {name} --family toy`" in fault.msg
    assert faults(wanted, family(tmp_path, loras={source: {"file": "."}})) == []


@pytest.mark.parametrize(
    "source", ["mine.safetensors", "https://else.example/sdxl_lcm_lora.safetensors", "http://[", "", "\x00"]
)
def test_another_lora_is_refused_without_a_command(tmp_path: Path, source: str) -> None:
    (fault,) = faults(spec(loras=(Lora(source=source, scale=1.0, field="loras.0.path"),)), family(tmp_path))
    assert (fault.type, fault.field) == ("feature_not_supported", "loras.0.path")
    assert "python -m" not in fault.msg


def test_a_lora_that_may_be_elsewhere_is_looked_for_there_unless_it_is_well_known(tmp_path: Path) -> None:
    ours = Lora(source="sdxl_lcm_lora", scale=1.0, field="loras.0.path")
    theirs = Lora(source="https://else.example/a", scale=1.0, field="loras.1.path")
    wanted = spec(loras=(ours, theirs))
    (fault,) = faults(wanted, family(tmp_path), lambda source: None)
    assert "lcm_lora" in fault.msg
    _, fault = faults(wanted, family(tmp_path), lambda source: f"not {source}")
    assert (fault.msg, fault.field) == ("not https://else.example/a", "loras.1.path")


def test_every_kind_of_structure_reference_and_inpaint_model_has_its_part() -> None:
    assert set(CONTROLS) == set(get_args(StructureKind))
    assert set(ADAPTERS) == set(get_args(ReferenceKind))
    assert set(PATCHES) == set(get_args(InpaintEngine))


def test_telling_it_loads_neither_torch_nor_opencv() -> None:
    code = "import sys, pipelines.needs; sys.exit(bool({'torch', 'cv2', 'transformers'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def lora(source: str, scale: float = 1.0, **more: Any) -> Lora:
    return Lora(source=source, scale=scale, **more)


def drawn_with(prompt: str, *loras: Lora) -> list[tuple[str, float]]:
    return [(each.source, each.scale) for each in loras_of(spec(prompt=prompt, loras=loras))]


def test_loras_that_a_prompt_names_follow_its_own_and_come_before_a_modes() -> None:
    loras = lora("style.safetensors", 0.5), lora("fast.safetensors", performance=True)
    found = drawn_with("a cat <lora:ink:0.7>, <lora:deep/clay:-1>", *loras)
    assert found == [("style.safetensors", 0.5), ("ink", 0.7), ("deep/clay", -1.0), ("fast.safetensors", 1.0)]


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("<lora:style:0.5>", []),
        ("<lora:deep/style:0.5>", []),
        ("<lora:style:0.6>", [("style", 0.6)]),
        ("<lora:ink:1>, <lora:ink:1.0>", [("ink", 1.0)]),
        ("<lora:fast:0.3>", []),
        ("a\n<lora:ink:1>", []),
    ],
)
def test_a_lora_that_is_there_already_is_not_named_again(prompt: str, found: list[tuple[str, float]]) -> None:
    own = lora("https://x/y/style.safetensors?download=1", 0.5)
    assert drawn_with(prompt, own, lora("fast", performance=True))[1:-1] == found


def test_tags_fill_the_places_that_are_left_and_no_lora_of_its_own_is_cut() -> None:
    tags = ", ".join(f"<lora:t{at}:1>" for at in range(9))
    assert len(drawn_with(tags, lora("a"), lora("fast", performance=True))) == MAX_LORAS + 1
    own = [lora(name) for name in "abcdefg"]
    assert drawn_with(tags, *own) == [(name, 1.0) for name in "abcdefg"]


def test_a_lora_that_a_prompt_names_and_nobody_knows_is_one_fault_of_the_prompt(tmp_path: Path) -> None:
    (fault,) = faults(spec(prompt="a <lora:no-such:1> cat"), family(tmp_path))
    assert (fault.type, fault.field) == ("feature_not_supported", "prompt")
    assert "'no-such'" in fault.msg
    assert faults(spec(prompt="a <lora:ink:1>"), family(tmp_path, loras={"ink.safetensors": {"file": "."}})) == []
