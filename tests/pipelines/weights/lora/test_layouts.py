"""Every layout of LoRA files, by a naive writer: the merged weights are those of the published formula."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipelines.weights.keys import original_name
from pipelines.weights.lora.changes import LowRank, merged
from pipelines.weights.lora.layers import changes_of
from pipelines.weights.lora.matching import Targets
from pipelines.weights.lora.names import Place
from pipelines.weights.lora.reading import read_lora
from pipelines.weights.variant_spec import LoraRef, VariantSpec
from pipelines.weights.variants import VariantStore
from tests.pipelines.weights import tiny
from tests.pipelines.weights.lora import naive

PROJECTION = "down_blocks.1.attentions.0.proj_in"
NORM = "down_blocks.1.resnets.0.norm1"
SCALE = 0.7
MOST_ELEMENTS = 2304  # of a weight: the naive writer takes its time for each
PREFIXES: Mapping[str, str] = MappingProxyType({"text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"})
KINDS: Any = (
    (nn.Linear, naive.LINEAR, 2),
    (nn.Conv2d, naive.CONVOLUTION, 4),
    ((nn.GroupNorm, nn.LayerNorm), naive.NORM, 1),
)


@dataclass(frozen=True)
class Layer:
    """A layer of one of the models, and what a writer wrote for it."""

    layout: str
    component: Any
    name: str
    module: Any
    written: naive.Written


@pytest.fixture(scope="module")
def family() -> Any:
    return tiny.family()


@pytest.fixture(scope="module")
def targets(family: Any) -> Targets:
    return Targets(family.unet, family.text_encoders)


@pytest.fixture(scope="module")
def layers(family: Any) -> list[Layer]:
    """Every layout once in the UNet and, as far as its layers reach, in each text encoder: each on its own layer."""
    return list(written_for(family))


def written_for(family: Any) -> Iterator[Layer]:
    models = dict(zip(("unet", "text_encoder", "text_encoder_2"), (family.unet, *family.text_encoders), strict=True))
    for component, model in models.items():
        for kind, writers, ndim in KINDS:
            found = [(name, module) for name, module in model.named_modules() if isinstance(module, kind)]
            fitting = [(name, module) for name, module in found if fits(module, ndim)]
            # the second text encoder, of only a dozen matrices, gets the layouts from the end
            order = list(writers.items())[:: -1 if component == "text_encoder_2" else 1]
            assert component != "unet" or len(fitting) >= len(order)
            for at, ((layout, write), (name, module)) in enumerate(zip(order, fitting, strict=False)):
                yield Layer(layout, component, name, module, write(module.weight.detach(), naive.Random(at)))


def fits(module: Any, ndim: int) -> bool:
    """Whether it has a bias, and a weight that the naive writer splits and computes quickly."""
    shape = module.weight.shape
    splits = ndim == 1 or (shape[0] % 2 == 0 and shape[1] % 8 == 0)
    kernel = ndim < 4 or shape[2] > 1
    return (
        module.bias is not None and len(shape) == ndim and splits and kernel and module.weight.numel() <= MOST_ELEMENTS
    )


def spelt(layer: Layer, naming: str, config: Any) -> dict[str, Tensor]:
    """The tensors of a layer as one of the trainers names them."""
    tensors, component, name = layer.written.tensors, layer.component, layer.name
    inner = name if component == "unet" else f"text_model.{name.removeprefix('text_model.')}"
    match naming:
        case "kohya":
            told = PREFIXES.get(component, "lora_unet_") + inner.replace(".", "_")
        case "original":
            assert component == "unet"
            told = f"lora_unet_{original_name(name, config).replace('.', '_')}"
        case "comfyui":
            place = {"unet": "diffusion_model", "text_encoder": "text_encoders.clip_l.transformer"}
            own = original_name(name, config) if component == "unet" else inner
            told = f"{place.get(component, 'text_encoders.clip_g.transformer')}.{own}"
        case _:
            told = f"{component}.{inner}"
            peft = {"lora_down.weight": "lora_A.weight", "lora_up.weight": "lora_B.weight"}
            peft["lora_up.bias"] = "lora_B.bias"
            tensors = {peft.get(role, role): tensor for role, tensor in tensors.items()}
    return {f"{told}.{role}": tensor for role, tensor in tensors.items()}


def save(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


@pytest.mark.parametrize("naming", ["kohya", "original", "comfyui", "peft"])
def test_merged_weights_are_the_formulas(
    tmp_path: Path, family: Any, targets: Targets, layers: list[Layer], naming: str
) -> None:
    """To 1e-5, in fp32; a file changes nothing that it does not name."""
    named = [layer for layer in layers if naming != "original" or layer.component == "unet"]
    tensors = {name: each for layer in named for name, each in spelt(layer, naming, family.unet.config).items()}
    found = targets.match(read_lora(save(tmp_path / "a.safetensors", tensors)))
    assert found.unmatched == ()
    wanted: dict[Place, tuple[Layer, Tensor]] = {}
    for layer in named:
        for kind, change in (("weight", layer.written.weight), ("bias", layer.written.bias)):
            if change is not None:
                wanted[layer.component, f"{layer.name}.{kind}"] = layer, change
    assert found.layers.keys() == wanted.keys()
    for place, (layer, change) in wanted.items():
        own = layer.module.get_parameter(place[1].rpartition(".")[2])
        new = merged(own, [(found.layers[place], SCALE)])
        assert torch.allclose(new.double(), own.double() + SCALE * change, rtol=1e-5, atol=1e-5), (layer.layout, place)
        assert not torch.allclose(new, own, atol=1e-3), (layer.layout, place)
        assert isinstance(found.layers[place], LowRank) == (
            layer.layout in ("LoRA", "LoRA with a bias", "LoCon") and place[1].endswith(".weight")
        ), layer.layout


@pytest.mark.parametrize("layout", ["LoRA", "LoHa", "LoKr, factors of both", "DoRA by output", "DoRA by input"])
def test_a_scale_leads_along_a_line_from_none_to_what_was_trained(layout: str) -> None:
    own = torch.randn(8, 8)
    tensors = naive.LINEAR[layout](own, naive.Random()).tensors
    roles = {"lora_down.weight": "down", "lora_up.weight": "up"}
    (found,) = changes_of({roles.get(role, role): tensor for role, tensor in tensors.items()})
    half, whole, back = (merged(own, [(found.change, scale)]) for scale in (0.5, 1.0, -1.0))
    assert torch.allclose(half, (own + whole) / 2, atol=1e-6)
    assert torch.allclose(back, 2 * own - whole, atol=1e-6)


def test_files_of_unlike_layouts_add_up_in_any_order(tmp_path: Path, family: Any) -> None:
    module = family.unet.get_submodule(PROJECTION)
    wanted, refs = module.weight.double(), []
    for at, layout in enumerate(("LoRA", "DoRA by input", "LoKr, both whole", "DoRA of peft", "whole")):
        written = naive.LINEAR[layout](module.weight.detach(), naive.Random(at))
        assert written.weight is not None
        layer = Layer(layout, "unet", PROJECTION, module, written)
        refs.append(LoraRef(save(tmp_path / f"{at}.safetensors", spelt(layer, "kohya", None)), 0.3))
        wanted = wanted + 0.3 * written.weight
    there, back = (
        VariantStore(family, 2**30).get(VariantSpec(adapters=tuple(order))).unet.get_parameter(f"{PROJECTION}.weight")
        for order in (refs, refs[::-1])
    )
    assert torch.allclose(there.double(), wanted, atol=1e-5)
    assert torch.equal(there, back)


def test_a_norms_change_reaches_what_the_unet_predicts(tmp_path: Path, family: Any) -> None:
    module = family.unet.get_submodule(NORM)
    layer = Layer("norm", "unet", NORM, module, naive.norm(module.weight, naive.Random()))
    path = save(tmp_path / "a.safetensors", spelt(layer, "kohya", None))
    ours = VariantStore(family, 2**30).get(VariantSpec(adapters=(LoraRef(path, SCALE),))).unet
    changed = tiny.unet()
    with torch.no_grad():
        for kind, change in (("weight", layer.written.weight), ("bias", layer.written.bias)):
            assert change is not None
            changed.get_parameter(f"{NORM}.{kind}").add_(SCALE * change)
    assert torch.allclose(tiny.predict(ours), tiny.predict(changed), atol=1e-5)
    assert not torch.allclose(tiny.predict(ours), tiny.predict(family.unet), atol=1e-3)


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16, torch.float64]
)
def test_a_file_of_any_dtype_is_computed_in_float32(
    tmp_path: Path, family: Any, targets: Targets, layers: list[Layer], dtype: torch.dtype
) -> None:
    tensors = {name: each for layer in layers for name, each in spelt(layer, "kohya", family.unet.config).items()}
    stored = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    first = targets.match(read_lora(save(tmp_path / "a.safetensors", stored))).layers
    rounded = {name: tensor.float() for name, tensor in stored.items()}
    second = targets.match(read_lora(save(tmp_path / "b.safetensors", rounded))).layers
    assert first.keys() == second.keys()
    for layer in layers:
        place = layer.component, f"{layer.name}.weight"
        own = layer.module.get_parameter("weight")
        assert torch.equal(first[place].delta(own), second[place].delta(own)), layer.layout


FULL_SIZE = {  # layers of SDXL's UNet at their published shapes
    "to_v of a cross-attention": (1280, 2048),
    "the widest matrix of the UNet": (10240, 1280),
    "a convolution": (640, 960, 3, 3),
}


@pytest.mark.parametrize("shape", FULL_SIZE.values(), ids=FULL_SIZE.keys())
def test_at_full_shape_a_few_elements_are_the_formulas(shape: tuple[int, ...]) -> None:
    """Of each layout with matrices, at rank 16: computed whole here, and looked at in a handful of places."""
    random = naive.Random()
    rank, outputs, columns = 16, shape[0], torch.Size(shape[1:]).numel()
    weight = torch.zeros(shape)
    a1, b1, a2, b2 = random(outputs, rank), random(rank, columns), random(outputs, rank), random(rank, columns)
    w1, w2 = random(8, 8), random(outputs // 8, columns // 8)
    conv = len(shape) == 4
    alpha = torch.tensor(4.0)
    down = b1.reshape(rank, *shape[1:])
    up = a1[:, :, None, None] if conv else a1
    whole_w2 = w2.reshape(outputs // 8, shape[1] // 8, *shape[2:])
    pieces: dict[str, Any] = {
        "LoRA": ({"down": down, "up": up, "alpha": alpha}, lambda o, j: a1[o].double() @ b1[:, j].double() / 4),
        "LoHa": (
            {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2, "alpha": alpha},
            lambda o, j: (a1[o].double() @ b1[:, j].double()) * (a2[o].double() @ b2[:, j].double()) / 4,
        ),
        "LoKr": (
            {"lokr_w1": w1, "lokr_w2": whole_w2},
            lambda o, j: w1[o // len(w2), j // w2.shape[1]].double() * w2[o % len(w2), j % w2.shape[1]].double(),
        ),
    }
    for layout, (piece, element) in pieces.items():
        (found,) = changes_of(piece)
        assert found.change.fits(weight), layout
        delta = found.change.delta(weight)
        assert delta.shape == shape
        for o, j in ((0, 0), (outputs - 1, columns - 1), (outputs // 3, columns // 2), (5, columns - 7)):
            assert float(delta.flatten(1)[o, j]) == pytest.approx(float(element(o, j)), rel=1e-4, abs=1e-5), layout
