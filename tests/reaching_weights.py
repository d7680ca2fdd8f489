"""What stands below the face for judges: loading of weights."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from models.pocket.write import write_family
from pipelines.memory.residency import RESIDENT
from pipelines.weights import checkpoint, family
from pipelines.weights.lora.matching import Targets
from pipelines.weights.lora.reading import read_lora
from pipelines.weights.variant_spec import LoraRef, VariantSpec
from pipelines.weights.variants import VariantStore
from tests.reaching_asked import CPU, Plain, refusals

POCKET = Path(__file__).parent.parent / ".cache" / "pocket"


def pocket() -> Path:
    write_family(POCKET)
    return POCKET


def load_models(folder: Path) -> dict[str, Any]:
    with refusals():
        found = family.load_family(folder, CPU, torch.float32)
    names = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    texts = dict(zip(names, (*found.text_encoders, *found.tokenizers), strict=True))
    return {"unet": found.unet, "vae": found.vae, **texts}


def load_checkpoint(path: Path, config: Path) -> dict[str, dict[str, Tensor]]:
    with refusals():
        parts = checkpoint.load_checkpoint(path, config, CPU, torch.float32)
    first, second = parts.text_encoders
    modules = {"unet": parts.unet, "vae": parts.vae, "text_encoder": first, "text_encoder_2": second}
    return {component: dict(module.named_parameters()) for component, module in modules.items()}


def load_lora(path: Path, models: Plain) -> dict[str, Any]:
    with refusals():
        match = Targets(models["unet"], encoders(models)).match(read_lora(path))
    changes = {
        (component, name): layer.delta(models[component].get_parameter(name))
        for (component, name), layer in match.layers.items()
    }
    return {"matched": changes, "unmatched": match.unmatched}


def effective_weight(models: Plain, loras: Sequence[tuple[Path, float]], component: str, name: str) -> Tensor:
    with refusals():
        variant = store_of(models).get(variant_spec_of(loras))
    first, second = variant.text_encoders
    modules: Plain = {"unet": variant.unet, "text_encoder": first, "text_encoder_2": second}
    weight: Tensor = modules[component].get_parameter(name).detach()
    return weight


def encoders(models: Plain) -> Any:
    return models["text_encoder"], models["text_encoder_2"]


def variant_spec_of(loras: Sequence[tuple[Path, float]]) -> VariantSpec:
    return VariantSpec(adapters=tuple(LoraRef(path, scale) for path, scale in loras))


def store_of(models: Plain) -> VariantStore:
    catalogue = SimpleNamespace(checkpoint=Path("judged"))
    whole: Any = SimpleNamespace(
        unet=models["unet"], text_encoders=encoders(models), catalogue=catalogue, residency=RESIDENT, home=CPU
    )
    return VariantStore(whole, 2**40)
