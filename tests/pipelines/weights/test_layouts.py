"""Every layout in which an SDXL checkpoint that can be drawn with is written loads as the plain one does."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.errors import WeightsFault
from pipelines.weights.checkpoint import Components, load_checkpoint, read_config

CPU = torch.device("cpu")
UNET, VAE = "model.diffusion_model.", "first_stage_model."
FIRST, SECOND = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
OUT = f"{UNET}out.2.weight"

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def plain(pocket_family_folder: Path) -> Tensors:
    return load_file(pocket_family_folder / "pocket_xl.safetensors")


@pytest.fixture
def load(pocket_family_folder: Path, tmp_path: Path) -> Callable[[Tensors], Components]:
    def loaded(tensors: Tensors) -> Components:
        save_file(tensors, tmp_path / "a.safetensors")
        return load_checkpoint(tmp_path / "a.safetensors", pocket_family_folder / "config", CPU, torch.float32)

    return loaded


def assert_same(found: Components, wanted: Components) -> None:
    models = (found.unet, found.vae, *found.text_encoders), (wanted.unet, wanted.vae, *wanted.text_encoders)
    for ours, theirs in zip(*models, strict=True):
        for name, parameter in theirs.named_parameters():
            assert torch.equal(ours.get_parameter(name), parameter), name


def one(*shape: int) -> Tensor:
    return torch.ones(shape)


@pytest.mark.parametrize(
    "beside",
    [
        {f"{FIRST}text_projection.weight": one(8, 8), "conditioner.embedders.0.logit_scale": one()},  # ComfyUI, 2024
        {"conditioner.embedders.0.text_projection": one(8, 8)},  # ComfyUI, 2023
        {"model_ema.decay": one(), "model_ema.num_updates": one(), "model_ema.diffusion_modelout2weight": one(9)},
        {"loss.logvar": one(), f"{VAE}loss.discriminator.main.0.weight": one(4)},
        {"lr_schedulers.0": one(), "optimizer_states.0": one(), "global_step": one(), "epoch": one()},
        {"alphas_cumprod": one(1000), "betas": one(1000), "denoiser.sigmas": one(1000)},
        {"v_pred": one(0), "ztsnr": one(0)},
        {f"{UNET}scaled_fp8": one(0), f"{UNET}out.2.scale_input": one()},
    ],
)
def test_what_is_known_to_be_idle_changes_nothing(
    load: Callable[[Tensors], Components], plain: Tensors, beside: Tensors
) -> None:
    assert_same(load(plain | beside), load(plain))


@pytest.mark.parametrize(
    "key", ["strange", "control_model.a", "conditioner.embedders.2.a", f"{UNET}out.9.scale_weight"]
)
def test_what_nobody_knows_is_named(load: Callable[[Tensors], Components], plain: Tensors, key: str) -> None:
    with pytest.raises(WeightsFault, match=f"no place for.*{key}"):
        load(plain | {key: one(1)})


def test_a_projection_that_is_stored_as_a_linear_layer(load: Callable[[Tensors], Components], plain: Tensors) -> None:
    key = f"{SECOND}text_projection"
    linear = {name: tensor for name, tensor in plain.items() if name != key}
    assert_same(load({**linear, f"{key}.weight": plain[key].T.contiguous()}), load(plain))


@pytest.mark.parametrize("old", [False, True])
def test_a_vae_by_diffusers_names(
    pocket_family_folder: Path, load: Callable[[Tensors], Components], plain: Tensors, old: bool
) -> None:
    wanted = load(plain)
    names = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    vae = AutoencoderKL.from_config(read_config(pocket_family_folder / "config" / "vae"))
    renamed: Tensors = {}
    for name in dict(vae.named_parameters()):
        tensor, stored = wanted.vae.get_parameter(name).contiguous(), name
        for ours, theirs in names.items() if old else ():
            stored = stored.replace(ours, theirs)
        renamed[VAE + stored] = (
            tensor[:, :, None, None] if old and ".attentions." in name and tensor.ndim == 2 else tensor
        )
    others = {name: tensor for name, tensor in plain.items() if not name.startswith(VAE)}
    assert_same(load(others | renamed), wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float8_e4m3fn, torch.float8_e5m2])
def test_tensors_of_any_dtype(load: Callable[[Tensors], Components], plain: Tensors, dtype: torch.dtype) -> None:
    stored = {name: tensor.to(dtype) for name, tensor in plain.items()}
    found = load(stored)
    assert torch.equal(found.unet.get_parameter("conv_out.weight"), stored[OUT].float())
    assert_same(found, load({name: tensor.float() for name, tensor in stored.items()}))


@pytest.mark.parametrize("outputs", [False, True])
def test_scaled_fp8_is_its_numbers_times_their_scale(
    load: Callable[[Tensors], Components], plain: Tensors, outputs: bool
) -> None:
    scaled: Tensors = {f"{UNET}scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    wanted: Tensors = {}
    for name, tensor in plain.items():
        wanted[name] = scaled[name] = tensor.float()
        if name.startswith(UNET) and name.endswith(".weight") and tensor.ndim > 1:
            sides = [*range(1, tensor.ndim)] if outputs else [*range(tensor.ndim)]
            scale = tensor.float().abs().amax(sides, keepdim=True).clamp(min=1e-6) / 448
            scaled[name] = (tensor.float() / scale).to(torch.float8_e4m3fn)
            wanted[name] = scaled[name].float() * scale
            scaled[f"{name.removesuffix('weight')}scale_weight"] = scale.flatten() if outputs else scale.reshape(())
            scaled[f"{name.removesuffix('weight')}scale_input"] = torch.tensor(3.0)
    assert_same(load(scaled), load(wanted))
    assert (wanted[OUT] - plain[OUT].float()).abs().max() < 0.07 * plain[OUT].abs().max()


def quantised(plain: Tensors, form: str, more: Tensors) -> Tensors:
    """As ComfyUI writes it since the end of 2025: a marker, a scale and at times the scale of what the layer reads."""
    marker = torch.tensor(list(json.dumps({"format": form}).encode()), dtype=torch.uint8)
    beside = {"comfy_quant": marker, "input_scale": torch.tensor(3.0), **more}
    layer = OUT.removesuffix("weight")
    return plain | {f"{layer}{name}": tensor for name, tensor in beside.items()}


@pytest.mark.parametrize("scale", [torch.tensor(0.5), torch.tensor([0.5])])
def test_newer_scaled_fp8_is_its_numbers_times_their_scale(
    load: Callable[[Tensors], Components], plain: Tensors, scale: Tensor
) -> None:
    stored = plain[OUT].to(torch.float8_e4m3fn)
    found = load(quantised(plain, "float8_e4m3fn", {"weight": stored, "weight_scale": scale}))
    assert_same(found, load(plain | {OUT: stored.float() * 0.5}))


@pytest.mark.parametrize(
    ("form", "more", "said"),
    [
        ("int8_blockwise", {"weight": torch.zeros(4, 4, dtype=torch.int8), "weight_scale": one(2, 2)}, "to int8"),
        (
            "nvfp4",
            {"weight": torch.zeros(4, 4, dtype=torch.uint8), "weight_scale": one(4, 1), "weight_scale_2": one()},
            "to nvfp4",
        ),
        ("mxfp8", {"weight_scale": torch.ones(4, 1, dtype=torch.uint8)}, "a scale for each block"),
        ("float8_e4m3fn", {"pre_quant_scale": one(4)}, "what its layers read"),
        ("", {"weight.quant_state.bitsandbytes__nf4": torch.zeros(9, dtype=torch.uint8)}, "to nf4 by bitsandbytes"),
        ("", {"SCB": one(4), "weight": torch.zeros(4, 4, dtype=torch.int8)}, "to int8 by bitsandbytes"),
        ("", {"qweight": torch.zeros(4, 4, dtype=torch.int32)}, "by GPTQ or AWQ"),
    ],
)
def test_another_quantisation_is_refused_by_name(
    load: Callable[[Tensors], Components], plain: Tensors, form: str, more: Tensors, said: str
) -> None:
    with pytest.raises(WeightsFault, match=rf"is quantised [^:]*{said}, which is not read: take its fp16") as fault:
        load(quantised(plain, form, more))
    assert "\n" not in str(fault.value)


def test_a_scale_that_fits_no_weight_is_named(load: Callable[[Tensors], Components], plain: Tensors) -> None:
    with pytest.raises(WeightsFault, match=r"out\.2\.scale_weight has shape \(3,\)"):
        load(plain | {f"{UNET}out.2.scale_weight": one(3)})


@pytest.mark.parametrize(
    ("gone", "said"), [(VAE, "lacks a VAE"), (SECOND, "lacks its text encoders|refiner"), ("conditioner.", "text enc")]
)
def test_a_checkpoint_without_a_model_says_which(
    load: Callable[[Tensors], Components], plain: Tensors, gone: str, said: str
) -> None:
    with pytest.raises(WeightsFault, match=said):
        load({name: tensor for name, tensor in plain.items() if not name.startswith(gone)})
