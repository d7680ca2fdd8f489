"""The stage of control hints: a hint picture is embedded once a job, not once a step."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from torch import Tensor

from pipelines.device import Device
from pipelines.engine.tasks import Answers, Ask, Stage
from pipelines.events import Pixels
from pipelines.memory.residency import RESIDENT, Residency


@dataclass(frozen=True, eq=False)
class EncodeHint(Ask[Tensor]):
    """Embed a (height, width, 3) uint8 hint for a control network. The answer is (channels, h, w)."""

    network: ControlNetModel
    pixels: Pixels

    @property
    def key(self) -> Hashable:
        return id(self.network), self.pixels.shape


class HintStage(Stage[EncodeHint, Tensor]):
    """One hint a call."""

    name = "hint"
    asked = EncodeHint

    def __init__(self, device: Device, residency: Residency = RESIDENT) -> None:
        self._device, self._residency = device, residency

    def run(self, asks: Sequence[EncodeHint]) -> Answers[Tensor]:
        return Answers([self._embed(ask) for ask in asks])

    def _embed(self, ask: EncodeHint) -> Tensor:
        network = ask.network
        dtype = network.conv_in.weight.dtype  # asking diffusers for it walks all modules
        pixels = self._device.upload(torch.tensor(ask.pixels)).permute(2, 0, 1)[None].to(dtype) / 255
        self._residency.bring(network.controlnet_cond_embedding)
        embedded: Tensor = network.controlnet_cond_embedding(pixels)[0]
        return embedded
