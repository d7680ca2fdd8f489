"""Gate 10, the refiner: with it at the end of a run, what should be plain is plainer and nothing else is lost."""

import json
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file

from benchmarks.pocket.gates.mark import Mark
from models.pocket import names
from pipelines.weights.family import Family
from pipelines.weights.layout import unet_places
from training.pocket.lessons import Reader
from training.pocket.refiner import Joint, score

PLAINER = 0.9  # of the grain that the UNet alone leaves
LOST = 0.05  # share of shapes that may be read less well


def refines(family: Family, count: int, steps: int = 30) -> list[Mark]:
    reader = Reader(family.tokenizers[0], family.text_encoders)
    alone = score(reader, family.unet, count, steps)
    joint = score(reader, Joint(family.unet, load(family), steps), count, steps)
    return [
        Mark("refiner: grain", joint["grain"], PLAINER * alone["grain"], below=True),
        Mark("refiner: shape", joint["shape"], alone["shape"] - LOST),
        Mark("refiner: colour", joint["colour"], alone["colour"] - LOST),
    ]


def load(family: Family) -> Any:
    """The UNet of the refiner's checkpoint."""
    root = family.catalogue.root
    unet: Any = UNet2DConditionModel.from_config(json.loads((root / "refiner_config/unet/config.json").read_text()))
    tensors = load_file(root / names.REFINER)
    places = unet_places(unet, unet.config)
    state = {name: place.read(tensors[place.key], unet.get_parameter(name)) for name, place in places.items()}
    unet.load_state_dict({name: tensor.to(torch.float32) for name, tensor in state.items()})
    return unet.eval().requires_grad_(False)
