"""The published checkpoints, whole and at full size: each parameter finds its tensor, and nothing is left over."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pipelines.catalogue import CONFIGS
from pipelines.errors import WeightsFault
from pipelines.weights.checkpoint import convert_open_clip, convert_vae, fill, load_checkpoint, load_unet, read_config
from pipelines.weights.header import read_header
from pipelines.weights.recognition import recognise
from tests.pipelines.weights import key_lists
from tests.pipelines.weights.key_lists import Keys, parameters
from tests.pipelines.weights.sparse import write_sparse

META = torch.device("meta")
UNETS = {"sdxl_base": 2_567_463_684, "sdxl_refiner": 2_259_526_660, "sd15": 859_520_964}
REFINER_TEXT, SD15_TEXT = "conditioner.embedders.0.model.", "cond_stage_model.transformer."


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def elements(keys: Mapping[str, tuple[int, ...]]) -> int:
    return sum(prod(shape) for shape in parameters(keys).values())


@pytest.mark.parametrize("dtype", ["F16", "F32", "F8_E4M3"])
def test_sdxl_base_loads_whole(tmp_path: Path, dtype: str) -> None:
    path = write_sparse(tmp_path / "sd_xl_base_1.0.safetensors", key_lists.sdxl_base(), dtype)
    found = load_checkpoint(path, CONFIGS / "sdxl_base", META, torch.float16)
    models = found.unet, found.vae, *found.text_encoders
    assert [count(model) for model in models] == [UNETS["sdxl_base"], 83_653_863, 123_060_480, 694_659_840]


@pytest.mark.parametrize("part", ["model.diffusion_model.", "first_stage_model.", "conditioner.embedders.1.model."])
def test_the_last_key_of_each_model_is_needed(tmp_path: Path, part: str) -> None:
    every = key_lists.sdxl_base()
    gone = [name for name in parameters(every) if name.startswith(part)][-1]
    path = write_sparse(tmp_path / "a.safetensors", {name: every[name] for name in every if name != gone})
    with pytest.raises(WeightsFault, match=f"lacks {re.escape(gone)};"):
        load_checkpoint(path, CONFIGS / "sdxl_base", META, torch.float16)


@pytest.mark.parametrize(("name", "keys"), [("sdxl_refiner", key_lists.sdxl_refiner()), ("sd15", key_lists.sd15())])
def test_the_other_published_unets_load_whole(tmp_path: Path, name: str, keys: Keys) -> None:
    path = write_sparse(tmp_path / "a.safetensors", keys)
    unet = load_unet(path, CONFIGS / name / "unet", META, torch.float16)
    assert count(unet) == UNETS[name] == elements({key: shape for key, shape in keys.items() if "diffusion" in key})


def made(kind: Any, config: Path) -> Any:
    with META:
        return kind(CLIPTextConfig(**read_config(config)))


@pytest.mark.parametrize(
    ("name", "keys", "prefix", "kind", "convert"),
    [
        (
            "sdxl_refiner/text_encoder_2",
            key_lists.sdxl_refiner(),
            REFINER_TEXT,
            CLIPTextModelWithProjection,
            lambda model: partial(convert_open_clip, model, REFINER_TEXT),
        ),
        ("sd15/text_encoder", key_lists.sd15(), SD15_TEXT, CLIPTextModel, lambda _: convert_ldm_clip_checkpoint),
    ],
)
def test_the_text_encoders_of_the_other_checkpoints_load_whole(
    tmp_path: Path, name: str, keys: Keys, prefix: str, kind: Any, convert: Callable[[Any], Any]
) -> None:
    path = write_sparse(tmp_path / "a.safetensors", keys)
    model = made(kind, CONFIGS / name)
    fill(path, read_header(path), prefix, model, convert(model), META, torch.float16)
    assert count(model) == elements({key: shape for key, shape in keys.items() if key.startswith(prefix)})


@pytest.mark.parametrize(("name", "keys"), [("sdxl_refiner", key_lists.sdxl_refiner()), ("sd15", key_lists.sd15())])
def test_the_vaes_of_the_other_checkpoints_load_whole(tmp_path: Path, name: str, keys: Keys) -> None:
    path = write_sparse(tmp_path / "a.safetensors", keys)
    with META:
        vae = AutoencoderKL.from_config(read_config(CONFIGS / name / "vae"))
    fill(path, read_header(path), "first_stage_model.", vae, partial(convert_vae, vae), META, torch.float16)
    assert count(vae) == 83_653_863


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        (key_lists.sdxl_base(), "SDXL base"),
        (key_lists.unet(key_lists.SDXL_BASE), "SDXL base"),
        (key_lists.unet(key_lists.SDXL_BASE, ""), "SDXL base"),
        (key_lists.sdxl_refiner(), "SDXL refiner"),
        (key_lists.unet(key_lists.SDXL_REFINER), "SDXL refiner"),
        (key_lists.sd15(), "Stable Diffusion 1.5"),
        (key_lists.unet(key_lists.SD15), "Stable Diffusion 1.5"),
        (key_lists.vae(), "VAE"),
        (key_lists.vae(""), "VAE"),
    ],
)
def test_each_is_recognised(tmp_path: Path, keys: Keys, kind: str) -> None:
    found = recognise(read_header(write_sparse(tmp_path / "a.safetensors", keys)))
    assert found.kind == kind
    assert found.unet == (kind != "VAE")
