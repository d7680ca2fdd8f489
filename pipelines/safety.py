"""The safety checker: which pictures may not be shown (CompVis' architecture, fooocus-facts 8.3)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import CLIPConfig

from pipelines.errors import WeightsFault
from pipelines.events import Pixels
from pipelines.images.resize import cut_of_scaled

SPECIAL_CARE = 0.01  # added to every concept's score when a special-care concept is present
NESTED, FLAT = "vision_model.vision_model.", "vision_model."


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What the vision tower expects. edge: the shorter side after scaling. crop: (height, width) of the centre cut.

    mean, std: per channel, of values in 0..1.
    """

    edge: int
    crop: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class SafetyChecker:
    """A vision tower whose embedding of a picture is compared with those of unwanted concepts."""

    def __init__(self, model: StableDiffusionSafetyChecker, preprocessing: Preprocessing) -> None:
        self._model = model
        self._preprocessing = preprocessing

    @torch.inference_mode()
    def scores(self, images: Pixels) -> torch.Tensor:
        """(n, concepts) fp32 on the CPU: cosine - threshold, raised by 0.01 under special care, to three decimals."""
        model = self._model
        pooled = model.vision_model(self._pixel_values(images))[1]
        embeds = torch.nn.functional.normalize(model.visual_projection(pooled).float())
        special = embeds @ torch.nn.functional.normalize(model.special_care_embeds.float()).T
        special = torch.round(special - model.special_care_embeds_weights.float(), decimals=3)
        concepts = embeds @ torch.nn.functional.normalize(model.concept_embeds.float()).T
        raised = SPECIAL_CARE * (special > 0).any(dim=1, keepdim=True)
        return torch.round(concepts - model.concept_embeds_weights.float() + raised, decimals=3).cpu()

    def flags(self, images: Pixels) -> list[bool]:
        """Which of `images`, (n, height, width, 3) uint8 RGB, score above 0 in any concept. One batch."""
        if not len(images):
            return []
        return [bool(flag) for flag in (self.scores(images) > 0).any(dim=1)]

    def _pixel_values(self, images: Pixels) -> torch.Tensor:
        cut = np.stack([_centre(image, self._preprocessing) for image in images])
        values = (cut.astype(np.float32) / 255 - self._preprocessing.mean) / self._preprocessing.std
        weight = self._model.visual_projection.weight
        return torch.from_numpy(values).permute(0, 3, 1, 2).to(weight.device, weight.dtype)


def load(folder: Path, device: torch.device | str = "cpu") -> SafetyChecker:
    """The checker in `folder`: `config.json`, `preprocessor_config.json` and `model.safetensors`. Runs in fp32.

    Raises WeightsFault when a file is missing or its tensors are not those of the architecture.
    """
    try:
        config = CLIPConfig(**json.loads((folder / "config.json").read_text()))
        preprocessing = _preprocessing(json.loads((folder / "preprocessor_config.json").read_text()))
        tensors = load_file(folder / "model.safetensors")
    except (OSError, ValueError, KeyError, SafetensorError) as fault:
        raise WeightsFault(f"The safety checker in {folder} cannot be read: {fault}") from fault
    model = StableDiffusionSafetyChecker(config)
    # published weights name the tower twice, newer transformers once; position ids are no weights
    state = {
        name.replace(NESTED, FLAT, 1): tensor.float()
        for name, tensor in tensors.items()
        if not name.endswith("position_ids")
    }
    own = model.state_dict()
    for name in sorted({*own, *state}):
        if name not in own or name not in state or own[name].shape != state[name].shape:
            why = f"{name} is missing, unknown or of another shape"
            raise WeightsFault(
                f"The safety checker in {folder} is of another architecture than its config.json: {why}."
            )
    model.load_state_dict(state)
    model.train(False)
    model.requires_grad_(False)
    torch.nn.Module.to(model, torch.device(device))
    return SafetyChecker(model, preprocessing)


def _preprocessing(config: dict[str, Any]) -> Preprocessing:
    size, crop = config["size"], config["crop_size"]
    return Preprocessing(
        edge=size if isinstance(size, int) else size["shortest_edge"],
        crop=(crop, crop) if isinstance(crop, int) else (crop["height"], crop["width"]),
        mean=tuple(config["image_mean"]),
        std=tuple(config["image_std"]),
    )


def _centre(image: Pixels, wanted: Preprocessing) -> Pixels:
    height, width = image.shape[:2]
    short = min(height, width)
    scaled = (width * wanted.edge // short, height * wanted.edge // short)
    corner = ((scaled[0] - wanted.crop[1]) // 2, (scaled[1] - wanted.crop[0]) // 2)
    return cut_of_scaled(image, scaled, corner, (wanted.crop[1], wanted.crop[0]), Image.Resampling.BICUBIC)
