"""The parts of the pocket model: how each is trained, with which others, what it is shipped as, and what judges it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from benchmarks.pocket.reader import Reader
from models.pocket import checker
from pipelines.needs import CONTROLS
from pipelines.spec import StructureKind
from training.pocket import (
    checkers,
    concept,
    controls,
    expansion,
    first_guesses,
    image_prompts,
    inpainting,
    large,
    other_words,
    outlines,
    performance,
    pictures,
    refiner,
    texts,
    upscaler,
    vision,
)
from training.pocket.distributed import DistributedGroup
from training.pocket.frozen_models import PICTURES, FrozenModels, open_reader
from training.pocket.run_dir import RunDir


@dataclass(frozen=True)
class Task:
    """One call of the command. checkpoints: where all parts have their runs' folders. group: that trains together."""

    part: str
    run_dir: RunDir
    checkpoints: Path
    tokenizer: CLIPTokenizer
    group: DistributedGroup

    def reader(self) -> Reader:
        """With the text encoders that were trained here, or else are shipped."""
        return open_reader(self.tokenizer, self.checkpoints, self.run_dir.device)

    def frozen(self) -> FrozenModels:
        """Text encoders and UNet as the last of the parts that this one needs left them, or else as shipped."""
        stages = [need for need in PARTS[self.part].needs if "unet" in PARTS[need].ships]
        return FrozenModels.open(self.run_dir, self.checkpoints, self.tokenizer, stages)


@dataclass(frozen=True, slots=True)
class Part:
    """What is trained by one call of the command.

    train: leaves a file in the run's folder, of the name `leaves`: tensors by name, or a list of such. ships: what it
    is called, or each of the list, in `models/pocket/weights`; where two parts are shipped as one, the later goes
    before. gate: of `benchmarks.pocket.evaluate`. needs: the parts that it is trained with, those of the same
    `checkpoints` or else as shipped.
    """

    train: Callable[[Task], None]
    ships: tuple[str, ...]
    gate: int
    needs: tuple[str, ...] = ()
    leaves: str = "weights.pt"

    def left(self, folder: Path) -> dict[str, Mapping[str, Tensor]]:
        """What it is shipped as, as far as it was trained: nothing, or all. folder: of its run."""
        path = folder / self.leaves
        if not path.is_file():
            return {}
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
        return dict(zip(self.ships, found if isinstance(found, list) else [found], strict=True))


FINISHED = ("texts", PICTURES, "large")
"""What text encoders and UNet are finished with."""


def _performance(mode: str) -> Part:
    return Part(
        lambda task: performance.train(task.run_dir, task.frozen(), performance.MODES[mode]), (mode,), 4, FINISHED
    )


def _control(kind: StructureKind) -> Part:
    return Part(lambda task: controls.train(task.run_dir, task.frozen(), kind), (CONTROLS[kind],), 5, FINISHED)


def _image_prompt(name: str) -> Part:
    def train(task: Task) -> None:
        image_prompts.train(task.run_dir, task.frozen(), name, task.checkpoints)

    begun = filter(None, (image_prompts.KINDS[name].begun,))
    return Part(train, (name,), 8, (*FINISHED, "vision", *begun))


def _checker(name: str) -> Part:
    return Part(lambda task: checkers.train(task.run_dir, name), (name,), 9)


PARTS: Mapping[str, Part] = MappingProxyType(
    {
        "texts": Part(
            lambda task: texts.train(task.run_dir, task.tokenizer),
            ships=("text_encoder", "text_encoder_2"),
            gate=2,
            leaves="encoders.pt",
        ),
        "other_words": Part(
            lambda task: other_words.train(task.run_dir, task.reader()),
            ships=("text_encoder", "text_encoder_2"),
            gate=4,
            needs=("texts",),
            leaves="encoders.pt",
        ),
        PICTURES: Part(
            lambda task: pictures.train(task.run_dir, task.reader(), task.group), ("unet",), 2, ("texts",), "unet.pt"
        ),
        "large": Part(
            lambda task: large.train(task.run_dir, task.frozen()), ("unet",), 3, ("texts", PICTURES), "unet.pt"
        ),
        **{mode: _performance(mode) for mode in performance.MODES},
        **{control: _control(kind) for kind, control in CONTROLS.items()},
        "outlines": Part(lambda task: outlines.train(task.run_dir, task.frozen()), ("outlines",), 6, FINISHED),
        "inpaint": Part(lambda task: inpainting.train(task.run_dir, task.frozen()), ("inpaint",), 7, FINISHED),
        "first_guesses": Part(
            lambda task: first_guesses.train(task.run_dir, task.frozen(), task.checkpoints),
            ("extreme_speed",),
            12,
            (*FINISHED, "extreme_speed", "inpaint"),
        ),
        "vision": Part(lambda task: vision.train(task.run_dir), ("vision",), 8),
        **{name: _image_prompt(name) for name in image_prompts.KINDS},
        **{name: _checker(name) for name in (checker.FIRST, checker.SECOND)},
        "upscaler": Part(lambda task: upscaler.train(task.run_dir), ("upscaler",), 10),
        "expansion": Part(lambda task: expansion.train(task.run_dir), ("expansion",), 10),
        "refiner": Part(lambda task: refiner.train(task.run_dir, task.frozen()), ("refiner",), 10, FINISHED),
        "concept": Part(lambda task: concept.train(task.run_dir, task.frozen()), ("concept",), 10, FINISHED),
    }
)
"""In an order in which they can be trained."""
