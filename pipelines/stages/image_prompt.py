"""The stage of image prompts: a picture is seen once for each kind of prompt, not once a job or a step."""

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from pipelines.device import Device
from pipelines.engine.tasks import Answers, Ask, Stage
from pipelines.events import Pixels
from pipelines.memory.residency import RESIDENT, Residency
from pipelines.weights.image_prompt import ImagePrompter

REMEMBERED = 128  # pictures of each kind; SDXL's tokens take 64 kB each


@dataclass(frozen=True, eq=False)
class SeePicture(Ask[Tensor]):
    """Make a prompt of a picture, (224, 224, 3) uint8. The answer is its tokens (tokens, width)."""

    prompter: ImagePrompter
    pixels: Pixels

    @property
    def key(self) -> Hashable:
        return id(self.prompter)


class ImagePromptStage(Stage[SeePicture, Tensor]):
    """One picture a call, so that its tokens are bit-equal whatever else is asked at the time.

    Pictures that were seen lately are known by their content, as long as the models are that saw them.
    """

    name = "image_prompt"
    asked = SeePicture

    def __init__(self, device: Device, residency: Residency = RESIDENT) -> None:
        self._device, self._residency = device, residency
        self._remembered: WeakKeyDictionary[ImagePrompter, OrderedDict[bytes, Tensor]] = WeakKeyDictionary()

    def run(self, asks: Sequence[SeePicture]) -> Answers[Tensor]:
        return Answers([self._tokens(ask) for ask in asks])

    def _tokens(self, ask: SeePicture) -> Tensor:
        pixels = np.ascontiguousarray(ask.pixels)
        name = hashlib.sha256(pixels.tobytes()).digest()
        remembered = self._remembered.setdefault(ask.prompter, OrderedDict())
        if name not in remembered:
            uploaded = self._device.upload(torch.tensor(pixels))
            remembered[name] = ask.prompter.tokens(uploaded[None], self._residency)[0]
        remembered.move_to_end(name)
        while len(remembered) > REMEMBERED:
            remembered.popitem(last=False)
        return remembered[name]
