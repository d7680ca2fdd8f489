"""The published checkpoints, whole and at full size: each parameter finds its tensor, and nothing is left over."""

import re
from collections.abc import Mapping
from math import prod
from pathlib import Path

import pytest
import torch
from torch import nn

from pipelines.errors import WeightsFault
from pipelines.parts import CONFIGS
from pipelines.weights.checkpoint import load_checkpoint, load_unet
from pipelines.weights.header import read_header
from pipelines.weights.recognition import recognise
from pipelines.weights.refiner import Sd15Refiner, SdxlRefiner, load_refiner
from tests.pipelines.weights import key_lists
from tests.pipelines.weights.key_lists import Keys, parameters
from tests.pipelines.weights.sparse import write_sparse

META = torch.device("meta")
UNETS = {"sdxl_base": 2_567_463_684, "sdxl_refiner": 2_259_526_660, "sd15": 859_520_964}


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


def test_comfyuis_scaled_fp8_of_sdxl_base_loads_whole(tmp_path: Path) -> None:
    """Every matrix of the UNet quantised, with a marker and both scales, and all else in half precision."""
    every = key_lists.sdxl_base()
    weights = [name for name in every if name.startswith("model.diffusion") and len(every[name]) == 2]
    layers = [name.removesuffix(".weight") for name in weights]
    scales = {f"{layer}.{scale}": () for layer in layers for scale in ("weight_scale", "input_scale")}
    markers: Keys = {f"{layer}.comfy_quant": (27,) for layer in layers}
    dtypes = {**dict.fromkeys(weights, "F8_E4M3"), **dict.fromkeys(scales, "F32"), **dict.fromkeys(markers, "U8")}
    path = write_sparse(tmp_path / "a.safetensors", {**every, **scales, **markers}, others=dtypes)
    assert recognise(read_header(path)).fp8 == "scaled"
    found = load_checkpoint(path, CONFIGS / "sdxl_base", META, torch.float16)
    assert count(found.unet) == UNETS["sdxl_base"]


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


def test_the_refiner_loads_whole_with_its_text_encoder(tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "sd_xl_refiner_1.0_0.9vae.safetensors", key_lists.sdxl_refiner())
    found = load_refiner(path, None, META, torch.float16)
    assert isinstance(found, SdxlRefiner)
    assert [count(model) for model in (found.unet, found.text_encoder)] == [UNETS["sdxl_refiner"], 694_659_840]


def test_stable_diffusion_1_5_loads_whole_with_its_text_encoder_and_vae(tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "realisticVisionV60B1_v51VAE.safetensors", key_lists.sd15())
    found = load_refiner(path, None, META, torch.float16)
    assert isinstance(found, Sd15Refiner)
    models = found.unet, found.text_encoder, found.vae
    assert [count(model) for model in models] == [UNETS["sd15"], 123_060_480, 83_653_863]
    assert found.vae.config["scaling_factor"] == 0.18215


@pytest.mark.parametrize(
    ("keys", "gone"),
    [
        (key_lists.sdxl_refiner(), "conditioner.embedders.0.model.transformer.resblocks.31.mlp.c_proj.bias"),
        (key_lists.sdxl_refiner(), "model.diffusion_model.out.2.bias"),
        (key_lists.sd15(), "cond_stage_model.transformer.text_model.final_layer_norm.bias"),
        (key_lists.sd15(), "first_stage_model.post_quant_conv.bias"),
        (key_lists.sd15(), "model.diffusion_model.middle_block.1.proj_in.weight"),
    ],
)
@pytest.mark.parametrize("change", ["more", "less", "shape"])
def test_a_refiner_with_one_thing_wrong_is_refused(tmp_path: Path, keys: Keys, gone: str, change: str) -> None:
    changed = {
        "more": {**keys, "control_model.input_blocks.0.0.weight": (1,)},
        "less": {name: shape for name, shape in keys.items() if name != gone},
        "shape": {**keys, gone: (keys[gone][0] + 1, *keys[gone][1:])},
    }
    said = {"more": "no place for", "less": f"lacks {re.escape(gone)};", "shape": f"{re.escape(gone)} in .* has shape"}
    path = write_sparse(tmp_path / "a.safetensors", changed[change])
    with pytest.raises(WeightsFault, match=said[change]):
        load_refiner(path, None, META, torch.float16)


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
