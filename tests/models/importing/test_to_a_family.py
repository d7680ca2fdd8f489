"""A LoRA or a refiner is brought to a family that is there; and the tool has the command."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.__main__ import main
from models.errors import ToolFault
from models.pocket import names
from pipelines.catalogue import Catalogue
from pipelines.weights.integrity import fault_of
from tests.models.importing.layouts import saved
from tests.pipelines.weights import key_lists
from tests.pipelines.weights.key_lists import Keys
from tests.pipelines.weights.sparse import write_sparse


@pytest.fixture
def family(run: Callable[..., str], pocket_family_folder: Path, families: Path) -> Path:
    run(pocket_family_folder / names.CHECKPOINT, "--name", "mine")
    return families / "mine"


def test_a_lora_is_brought_to_a_family(run: Callable[..., str], pocket_family_folder: Path, family: Path) -> None:
    source = pocket_family_folder / "loras" / names.OUTLINES
    assert "it fits the family mine" in run(source, "--family", "mine", config=False)
    catalogue = Catalogue.open(family)
    assert catalogue.lora("pocket_outlines") == (family / "loras" / names.OUTLINES).resolve()
    assert (
        fault_of(family / "loras" / names.OUTLINES, catalogue.file.files[f"loras/{names.OUTLINES}"], all_bytes=True)
        is None
    )
    with pytest.raises(ToolFault, match="already"):
        run(source, "--family", "mine", config=False)


def test_a_lora_of_another_model_is_refused(run: Callable[..., str], tmp_path: Path, family: Path) -> None:
    layer = "lora_unet_down_blocks_7_attentions_0_proj_in"
    other = {f"{layer}.lora_{side}.weight": torch.zeros(4, 4) for side in ("down", "up")}
    before = (family / "family.json").read_bytes()
    with pytest.raises(ToolFault, match="does not fit the model"):
        run(saved(other, tmp_path / "other.safetensors"), "--family", "mine", config=False)
    assert (family / "family.json").read_bytes() == before
    assert not (family / "loras").exists()


def test_a_checkpoint_is_not_brought_to_a_family(
    run: Callable[..., str], pocket_family_folder: Path, family: Path
) -> None:
    with pytest.raises(ToolFault, match="--family takes a LoRA or"):
        run(pocket_family_folder / names.CHECKPOINT, "--family", "mine", config=False)


def test_a_refiner_becomes_the_familys(run: Callable[..., str], pocket_family_folder: Path, family: Path) -> None:
    shutil.copytree(pocket_family_folder / "refiner_config", family / "refiner_config")
    path = family / "family.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "refiner_config": "refiner_config"}))
    assert "refiner" in run(pocket_family_folder / names.REFINER, "--family", "mine", config=False)
    assert Catalogue.open(family).part("refiner") == (family / "refiner" / names.REFINER).resolve()


def test_stable_diffusion_1_5_becomes_the_familys_refiner(
    run: Callable[..., str], tmp_path: Path, family: Path
) -> None:
    source = write_sparse(tmp_path / "realisticVision.safetensors", key_lists.sd15(), "F8_E4M3")
    assert "Stable Diffusion 1.5" in run(source, "--family", "mine", config=False)
    assert Catalogue.open(family).part("refiner") == (family / "refiner" / source.name).resolve()
    with pytest.raises(ToolFault, match="has a refiner already"):
        run(source, "--family", "mine", config=False)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (key_lists.unet(key_lists.SD15), "lacks its text encoder"),
        ({**key_lists.unet(key_lists.SD15), **key_lists.clip_l("cond_stage_model.transformer.")}, "lacks its VAE"),
        (key_lists.unet(key_lists.SDXL_REFINER), "lacks its text encoder"),
        ({**key_lists.sd15(), "strange": (1,)}, "no place for.*strange"),
    ],
)
def test_a_refiner_that_is_not_whole_is_refused(
    run: Callable[..., str], tmp_path: Path, family: Path, keys: Keys, said: str
) -> None:
    before = sorted(family.rglob("*"))
    with pytest.raises(ToolFault, match=said):
        run(write_sparse(tmp_path / "part.safetensors", keys), "--family", "mine", config=False)
    assert sorted(family.rglob("*")) == before


def test_options_that_do_not_go_together_are_refused(run: Callable[..., str], pocket_family_folder: Path) -> None:
    with pytest.raises(ToolFault, match="no other option"):
        run(pocket_family_folder / "loras" / names.OUTLINES, "--family", "mine", "--name", "other", config=False)
    with pytest.raises(ToolFault, match="needs nothing of --base"):
        run(pocket_family_folder / names.CHECKPOINT, "--base", pocket_family_folder)


def test_the_tool_has_it(
    pocket_family_folder: Path, tmp_path: Path, families: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, config = pocket_family_folder / names.CHECKPOINT, pocket_family_folder / "config"
    assert main(["import", str(source), "--config", str(config), "--name", "mine"]) == 0
    assert Catalogue.open(families / "mine").name == "mine"
    assert main(["import", str(tmp_path / "nowhere"), "--name", "other"]) == 1
    assert capsys.readouterr().err == f"error: There is no {tmp_path / 'nowhere'}.\n"
