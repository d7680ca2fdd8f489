"""Refiners come out of their checkpoints, SDXL's and Stable Diffusion 1.5; what does not fit is refused."""

import json
import re
from pathlib import Path

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTokenizer

from models.pocket import names
from models.pocket.trained import trained
from pipelines.errors import WeightsFault
from pipelines.parts import CONFIGS
from pipelines.weights.checkpoint import load_checkpoint, load_unet, read_config
from pipelines.weights.refiner import Sd15Refiner, SdxlRefiner, load_refiner
from tests.pipelines.weights.sd15 import Sd15, write_sd15

CPU = torch.device("cpu")


def read_refiner(path: Path, config: Path) -> UNet2DConditionModel:
    return load_unet(path, config, torch.device("cpu"), torch.float32)


def test_each_tensor_is_where_it_was_trained(pocket_family_folder: Path) -> None:
    found = read_refiner(pocket_family_folder / names.REFINER, pocket_family_folder / "refiner_config" / "unet")
    state = found.state_dict()
    wanted = trained("refiner")
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in wanted.items())
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_what_does_not_fit_the_configuration_is_refused(pocket_family_folder: Path, tmp_path: Path) -> None:
    config = pocket_family_folder / "refiner_config" / "unet"
    tensors = load_file(pocket_family_folder / names.REFINER)
    key = "model.diffusion_model.out.2.weight"
    path = tmp_path / "refiner.safetensors"
    for changed, said in (
        ({name: tensor for name, tensor in tensors.items() if name != key}, "out"),
        ({**tensors, "model.diffusion_model.out.3.weight": torch.zeros(1)}, "no place"),
        ({**tensors, key: torch.zeros(1)}, "has shape"),
    ):
        save_file(changed, path)
        with pytest.raises(WeightsFault, match=said):
            read_refiner(path, config)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsFault, match="cannot be read"):
        read_refiner(path, config)
    save_file(tensors, path)
    (tmp_path / "config.json").write_text(json.dumps({"layers_per_block": 2})[:-1])
    with pytest.raises(WeightsFault, match=re.escape(str(tmp_path))):
        read_refiner(path, tmp_path)


def test_the_refiner_has_the_second_text_encoder(pocket_family_folder: Path) -> None:
    config = pocket_family_folder / "refiner_config"
    found = load_refiner(pocket_family_folder / names.REFINER, config, CPU, torch.float16, text_dtype=torch.float32)
    assert isinstance(found, SdxlRefiner)
    assert (found.unet.dtype, found.text_encoder.dtype) == (torch.float16, torch.float32)
    base = load_checkpoint(
        pocket_family_folder / names.CHECKPOINT, pocket_family_folder / "config", CPU, torch.float32
    ).text_encoders[1]
    same(found.text_encoder, base)
    tokens = CLIPTokenizer.from_pretrained(CONFIGS / "sdxl_base" / "tokenizer_2")
    assert len(tokens) == CLIPTextConfig(**read_config(CONFIGS / "sdxl_refiner" / "text_encoder_2")).vocab_size


def same(found: nn.Module, wanted: nn.Module) -> None:
    state = dict(found.named_parameters())
    assert state.keys() == dict(wanted.named_parameters()).keys()
    assert all(torch.equal(state[name], parameter) for name, parameter in wanted.named_parameters())


@pytest.fixture
def sd15(pocket_family_folder: Path, tmp_path: Path) -> Sd15:
    return write_sd15(tmp_path, pocket_family_folder)


def test_stable_diffusion_1_5_has_its_own_text_encoder_and_vae(sd15: Sd15) -> None:
    found = load_refiner(sd15.path, sd15.config, CPU, torch.float32)
    assert isinstance(found, Sd15Refiner)
    for ours, theirs in zip((found.unet, found.text_encoder, found.vae), sd15.models, strict=True):
        same(ours, theirs)
        assert not ours.training
    tokens = CLIPTokenizer.from_pretrained(CONFIGS / "sdxl_base" / "tokenizer")
    assert len(tokens) == CLIPTextConfig(**read_config(CONFIGS / "sd15" / "text_encoder")).vocab_size


@pytest.mark.parametrize(
    ("gone", "said"), [("first_stage_model.", "lacks its VAE"), ("cond_stage_model.", "refiner|text encoder")]
)
def test_a_refiner_without_a_model_says_which(sd15: Sd15, gone: str, said: str) -> None:
    save_file({key: tensor for key, tensor in load_file(sd15.path).items() if not key.startswith(gone)}, sd15.path)
    with pytest.raises(WeightsFault, match=said):
        load_refiner(sd15.path, sd15.config, CPU, torch.float32)


def test_what_is_no_refiner_is_refused(pocket_family_folder: Path) -> None:
    with pytest.raises(WeightsFault, match=r"is an SDXL base checkpoint.*a refiner is needed here"):
        load_refiner(pocket_family_folder / names.CHECKPOINT, None, CPU, torch.float32)
    with pytest.raises(WeightsFault, match="the configuration says"):
        load_refiner(pocket_family_folder / names.REFINER, None, CPU, torch.float32)
