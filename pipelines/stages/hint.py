"""The stage of control hints: a hint picture is embedded once a job, not once a step."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from torch import Tensor

from pipelines.events import Pixels


@dataclass(frozen=True, eq=False)
class EncodeHint:
    """Embed a (height, width, 3) uint8 hint for a control network. The answer is (channels, h, w)."""

    network: ControlNetModel
    pixels: Pixels

    @property
    def key(self) -> Hashable:
        return id(self.network), self.pixels.shape

    @property
    def rows(self) -> int:
        return 1

    @property
    def cost(self) -> float:
        return 0.0


class HintStage:
    """One hint a call."""

    name = "hint"

    def cap(self, ask: Any) -> int:
        return 1

    def run(self, asks: Sequence[EncodeHint]) -> list[Tensor]:
        return [self._embed(ask) for ask in asks]

    def _embed(self, ask: EncodeHint) -> Tensor:
        network = ask.network
        like = network.conv_in.weight  # asking diffusers for its device and dtype walks all modules
        pixels = torch.tensor(ask.pixels, device=like.device).permute(2, 0, 1)[None].to(like.dtype) / 255
        embedded: Tensor = network.controlnet_cond_embedding(pixels)[0]
        return embedded
