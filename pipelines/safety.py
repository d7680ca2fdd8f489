"""The safety checkers: which pictures may not be shown (fooocus-facts 8.3; fal-protocol 9.6)."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import CLIPConfig, ViTForImageClassification

from pipelines.errors import WeightsFault
from pipelines.events import Pixels
from pipelines.images.resize import cut_of_scaled

SPECIAL_CARE = 0.01  # added to every concept's score when a special-care concept is present
NESTED, FLAT = "vision_model.vision_model.", "vision_model."
UNWANTED = "nsfw"  # the label of a classifier that is looked for
LIKELY = 0.5  # probability of that label above which there is an objection


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a vision tower expects. edge: the shorter side after scaling; None where the picture is stretched.

    crop: (height, width) of the centre cut, or of the whole. mean, std: per channel, of values in 0..1.
    """

    edge: int | None
    crop: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: Image.Resampling = Image.Resampling.BICUBIC

    def values(self, images: Pixels) -> torch.Tensor:
        """(n, 3, height, width) fp32 of `images`, (n, height, width, 3) uint8 RGB."""
        seen = np.stack([self.seen(image) for image in images])
        return torch.from_numpy((seen.astype(np.float32) / 255 - self.mean) / self.std).permute(0, 3, 1, 2).float()

    def seen(self, image: Pixels) -> Pixels:
        """What is looked at of a picture: (crop's height, width, 3) uint8."""
        height, width = image.shape[:2]
        wide = self.crop[1], self.crop[0]
        if self.edge is None:
            return cut_of_scaled(image, wide, (0, 0), wide, self.resample)
        short = min(height, width)
        scaled = (width * self.edge // short, height * self.edge // short)
        corner = ((scaled[0] - wide[0]) // 2, (scaled[1] - wide[1]) // 2)
        return cut_of_scaled(image, scaled, corner, wide, self.resample)


class Checker(ABC):
    """Says how much it objects to pictures. Objections of v1 and of v2 are not of one scale; only the sign is."""

    @abstractmethod
    def objections(self, images: Pixels) -> list[float]:
        """Of each of `images`, (n, height, width, 3) uint8 RGB, to three decimals: above 0 it may not be shown. One
        batch."""

    def flags(self, images: Pixels) -> list[bool]:
        """Which of the pictures may not be shown."""
        return [objection > 0 for objection in self.objections(images)]


class SafetyChecker(Checker):
    """v1, CompVis': a vision tower whose embedding of a picture is compared with those of unwanted concepts."""

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

    def objections(self, images: Pixels) -> list[float]:
        """The score of the concept that each picture is most like."""
        if not len(images):
            return []
        return [float(score) for score in self.scores(images).max(dim=1).values]

    def _pixel_values(self, images: Pixels) -> torch.Tensor:
        weight = self._model.visual_projection.weight
        return self._preprocessing.values(images).to(weight.device, weight.dtype)


class SafetyClassifier(Checker):
    """v2: a vision transformer that sorts pictures by labels, of which one is `nsfw`."""

    def __init__(self, model: torch.nn.Module, preprocessing: Preprocessing, unwanted: int) -> None:
        """model: a `ViTForImageClassification`. unwanted: the place of the label among its own."""
        self._model, self._preprocessing, self._unwanted = model, preprocessing, unwanted

    @torch.inference_mode()
    def objections(self, images: Pixels) -> list[float]:
        """The probability of the label, above a half, of each picture."""
        if not len(images):
            return []
        weight = next(self._model.parameters())
        logits: torch.Tensor
        logits = self._model(pixel_values=self._preprocessing.values(images).to(weight.device, weight.dtype)).logits
        likely = logits.float().softmax(dim=1)[:, self._unwanted].cpu() - LIKELY
        return [float(each) for each in torch.round(likely, decimals=3)]


def load(folder: Path, device: torch.device | str = "cpu") -> Checker:
    """The checker in `folder`: `config.json`, which says of which kind it is, `preprocessor_config.json` and
    `model.safetensors`. Runs in fp32.

    Raises WeightsFault when a file is missing or its tensors are not those of the architecture.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        preprocessing = _preprocessing(json.loads((folder / "preprocessor_config.json").read_text()))
        read = _classifier if config.get("model_type") == "vit" else _checker
        model, make = read(folder, config)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as fault:
        raise WeightsFault(f"The safety checker in {folder} cannot be read: {fault}") from fault
    model.train(False)
    model.requires_grad_(False)
    torch.nn.Module.to(model, torch.device(device))
    return make(preprocessing)


_Read = tuple[torch.nn.Module, Callable[[Preprocessing], Checker]]


def _checker(folder: Path, config: dict[str, Any]) -> _Read:
    model = StableDiffusionSafetyChecker(CLIPConfig(**config))
    # published weights name the tower twice, newer transformers once; position ids are no weights
    state = {
        name.replace(NESTED, FLAT, 1): tensor.float()
        for name, tensor in load_file(folder / "model.safetensors").items()
        if not name.endswith("position_ids")
    }
    own = model.state_dict()
    for name in sorted({*own, *state}):
        if name not in own or name not in state or own[name].shape != state[name].shape:
            raise _other_architecture(folder, name)
    model.load_state_dict(state)
    return model, lambda preprocessing: SafetyChecker(model, preprocessing)


def _classifier(folder: Path, config: dict[str, Any]) -> _Read:
    labels = {str(label).lower(): int(place) for place, label in config["id2label"].items()}
    if UNWANTED not in labels:
        raise ValueError(f"none of its labels ({', '.join(labels)}) is {UNWANTED}")
    # transformers' own reader knows the names that its older versions gave to the tensors
    reader: Any = ViTForImageClassification
    model, told = reader.from_pretrained(
        folder,
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    for name in (*told["missing_keys"], *told["unexpected_keys"], *(each[0] for each in told["mismatched_keys"])):
        raise _other_architecture(folder, name)
    return model, lambda preprocessing: SafetyClassifier(model, preprocessing, labels[UNWANTED])


def _other_architecture(folder: Path, name: str) -> WeightsFault:
    why = f"{name} is missing, unknown or of another shape"
    return WeightsFault(f"The safety checker in {folder} is of another architecture than its config.json: {why}.")


def _preprocessing(config: dict[str, Any]) -> Preprocessing:
    """As transformers' processors write it: of CLIP, a shorter side and a centre cut of it; of ViT, a size."""
    size, crop = config["size"], config.get("crop_size", {})
    look: dict[str, Any] = {
        "mean": tuple(config["image_mean"]),
        "std": tuple(config["image_std"]),
        "resample": Image.Resampling(config.get("resample", Image.Resampling.BICUBIC)),
    }
    if isinstance(size, dict) and "height" in size:
        return Preprocessing(None, (size["height"], size["width"]), **look)
    return Preprocessing(
        size if isinstance(size, int) else size["shortest_edge"],
        (crop, crop) if isinstance(crop, int) else (crop["height"], crop["width"]),
        **look,
    )
