"""LoRA files of every layout, judged by what diffusers makes of them."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipelines.weights.keys import original_name
from pipelines.weights.variant_spec import LoraRef, VariantSpec
from pipelines.weights.variants import VariantStore
from tests.pipelines.weights import tiny

SCALE, ALPHA = 0.7, 1.5
PREFIXES = MappingProxyType({"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"})


def components(family: Any) -> dict[str, nn.Module]:
    return {"unet": family.unet, "text_encoder": family.text_encoders[0], "text_encoder_2": family.text_encoders[1]}


def projections(family: Any) -> Iterator[tuple[str, str, nn.Linear]]:
    """Component, name as in files, and module of everything that LoRAs of all layouts change."""
    for component, model in components(family).items():
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and re.search(r"\.(attn\d|self_attn|mlp)\.", name):
                told = name if component == "unet" or name.startswith("text_model.") else f"text_model.{name}"
                yield component, told, module


def kohya(family: Any, *, original: bool) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for at, (component, name, module) in enumerate(projections(family)):
        told = original_name(name, family.unet.config) if original and component == "unet" else name
        prefix = PREFIXES[component] + told.replace(".", "_")
        down, up = tiny.low_rank(module.out_features, (module.in_features,), seed=at)
        tensors |= {f"{prefix}.lora_down.weight": down, f"{prefix}.lora_up.weight": up}
        tensors[f"{prefix}.alpha"] = torch.tensor(ALPHA)
    return tensors


def diffusers(family: Any, unet: tuple[str, str], text: tuple[str, str]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for at, (component, name, module) in enumerate(projections(family)):
        for role, tensor in zip(
            unet if component == "unet" else text,
            tiny.low_rank(module.out_features, (module.in_features,), seed=at),
            strict=True,
        ):
            tensors[f"{component}.{name}.{role}.weight"] = tensor
    return tensors


def expected(family: Any, file: Path) -> dict[tuple[str, str], Tensor]:
    """W + scale * alpha/rank * up @ down, of the names, tensors and alphas that diffusers reads from the file."""
    tensors, alphas = StableDiffusionXLLoraLoaderMixin.lora_state_dict(load_file(file), unet_config=family.unet.config)
    weights = {}
    for key, down in tensors.items():
        role = next((role for role in (".lora_A.", ".lora.down.", "_lora.down.", "_layer.down.") if role in key), None)
        if role is None:
            continue
        up = tensors[key.replace(role, role.replace("lora_A", "lora_B").replace("down", "up"))]
        component, _, name = key.partition(".")
        name = re.sub(r"\.(lora_A|lora\.down|lora_linear_layer\.down)\.weight$", "", name)
        name = re.sub(r"\.processor\.(to_\w+?)_lora\.down\.weight$", r".\1", name)
        name = re.sub(r"\.to_(q|k|v|out)_lora\.down\.weight$", r".\1_proj", name)  # of the text encoders
        name = re.sub(r"\.to_out$", ".to_out.0", name)
        model = components(family)[component]
        if component == "text_encoder":
            name = name.removeprefix("text_model.")
        alpha = (alphas or {}).get(f"{key}.alpha", down.shape[0])
        change = SCALE * alpha / down.shape[0] * up @ down
        weights[component, f"{name}.weight"] = model.get_parameter(f"{name}.weight") + change
    return weights


def layouts(family: Any) -> Mapping[str, dict[str, Tensor]]:
    linear = ("lora_linear_layer.down", "lora_linear_layer.up")
    return {
        "kohya": kohya(family, original=False),
        "kohya, original names": kohya(family, original=True),
        "peft": diffusers(family, ("lora_A", "lora_B"), ("lora_A", "lora_B")),
        "older diffusers": diffusers(family, ("lora.down", "lora.up"), linear),
    }


@pytest.mark.parametrize("layout", ["kohya", "kohya, original names", "peft", "older diffusers"])
def test_the_unet_and_both_text_encoders_change_as_diffusers_reads_the_file(tmp_path: Path, layout: str) -> None:
    family = tiny.family()
    file = tmp_path / "lora.safetensors"
    save_file(layouts(family)[layout], file)
    wanted = expected(family, file)
    assert len(wanted) == sum(1 for _ in projections(family))
    variant = VariantStore(family, 2**30).get(VariantSpec(adapters=(LoraRef(file, SCALE),)))
    ours = {"unet": variant.unet, "text_encoder": variant.text_encoders[0], "text_encoder_2": variant.text_encoders[1]}
    for component, model in ours.items():
        plain = components(family)[component]
        for name, parameter in model.named_parameters():
            weight = wanted.get((component, name))
            if weight is None:
                assert parameter is plain.get_parameter(name), f"{component}.{name}"
            else:
                assert torch.allclose(parameter, weight, atol=1e-6), f"{component}.{name}"
                assert not torch.equal(parameter, plain.get_parameter(name)), f"{component}.{name}"
