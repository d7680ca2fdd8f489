"""The guide of a run: what leads its evaluations, decided anew for each one by how far it has come."""

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace

from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from pipelines.conditioning import Conditioning
from pipelines.denoising.schedules import NoiseTable
from pipelines.engine.tasks import Ask
from pipelines.parts import Prediction
from pipelines.unet.branches import RowLora
from pipelines.unet.guidance import adaptive_scale, progress
from pipelines.unet.rows import ControlBranch, ImageAdapter, ImagePrompt, Row
from pipelines.unet.sharpening import filtered_share


@dataclass(frozen=True, eq=False)
class ControlImage:
    """A control image of a run. hint: (channels, h, w), embedded once. Acts while sigma is at or above `until`."""

    network: ControlNetModel
    hint: Tensor
    weight: float
    until: float


@dataclass(frozen=True, eq=False)
class ImageReference:
    """A picture that a run attends to. tokens: (tokens, width), of it; negative: alike, what rows of the negative
    prompt attend to instead. Acts while the progress is below `stop_at`."""

    adapter: ImageAdapter
    tokens: Tensor
    negative: Tensor
    weight: float
    stop_at: float


@dataclass(frozen=True, eq=False)
class SizeIds:
    """What the UNet is told of the picture's size: (6,) original, crop and target height and width, or whatever else a
    refiner is told.

    Above timestep `emphasised_above` the prompts get sizes of their own, which makes the picture bolder; below it, and
    by default, both get the true one.
    """

    true: Tensor
    positive: Tensor
    negative: Tensor
    emphasised_above: float = math.inf


@dataclass(frozen=True)
class Guidance:
    """How positive and negative prediction are put together (fooocus-facts 4.2). The defaults are the plain formula.

    mimicked: above this scale, early steps are guided with it. sharpness: of Fooocus' filter. rescale: the share by
    which the deviation of the positive prediction is restored.
    """

    scale: float
    mimicked: float = math.inf
    sharpness: float = 0.0
    rescale: float = 0.0


@dataclass(frozen=True, eq=False)
class Evaluate(Ask[Tensor]):
    """Predict the clean latent of x, (channels, h, w) float32, at sigma. The answer has x's shape.

    group: names the weights of `unet`. negative: None without guidance. scale: of the guidance. sharpened: share of the
    noise that is filtered. rescale: as in `Guidance`. prediction: what `unet` predicts.
    """

    unet: UNet2DConditionModel
    group: Hashable
    x: Tensor
    sigma: float
    timestep: int
    positive: Row
    negative: Row | None = None
    scale: float = 1.0
    sharpened: float = 0.0
    rescale: float = 0.0
    prediction: Prediction = "epsilon"

    @property
    def key(self) -> Hashable:
        return self.group, tuple(self.x.shape)

    @property
    def rows(self) -> int:
        return 1 if self.negative is None else 2

    @property
    def cost(self) -> float:
        return float(self.rows * self.x.shape[-2] * self.x.shape[-1])


@dataclass(frozen=True, eq=False)
class Guide:
    """What the trajectories of one job share: everything that leads an evaluation but its latent and its sigma.

    negative: None for a run without guidance, whose scale is 1. group: names the weights of `unet`; None means this
    very object. prediction: what `unet` predicts. head: (channels, h, w), what an inpaint head makes of the picture.
    loras: what rows add to the weights of `unet`.
    table: the levels that `unet` knows; None for those of the run.
    """

    unet: UNet2DConditionModel
    positive: Conditioning
    negative: Conditioning | None
    guidance: Guidance
    sizes: SizeIds
    controls: tuple[ControlImage, ...] = ()
    group: Hashable = None
    prediction: Prediction = "epsilon"
    references: tuple[ImageReference, ...] = ()
    head: Tensor | None = None
    loras: tuple[RowLora, ...] = ()
    table: NoiseTable | None = None

    def on(self, unet: UNet2DConditionModel, group: Hashable, loras: tuple[RowLora, ...] = ()) -> "Guide":
        """The same prompts on other weights, without what was made for these: as at a swap (fooocus-facts 4.6)."""
        return replace(self, unet=unet, group=group, controls=(), references=(), head=None, loras=loras)

    def evaluate(self, x: Tensor, sigma: float, timestep: int) -> Evaluate:
        """The evaluation of x at sigma."""
        group = id(self.unet) if self.group is None else self.group
        controls = tuple(
            ControlBranch(each.network, each.hint, each.weight) for each in self.controls if sigma >= each.until
        )
        guidance, done = self.guidance, progress(timestep)
        seen = [each for each in self.references if done < each.stop_at]
        shown = tuple(ImagePrompt(each.adapter, each.tokens, each.weight) for each in seen)
        emphasised = timestep > self.sizes.emphasised_above
        sizes = self.sizes.positive if emphasised else self.sizes.true
        positive = Row(self.positive, sizes, controls, self.head, shown, self.loras)
        if self.negative is None:
            return Evaluate(self.unet, group, x, sigma, timestep, positive, prediction=self.prediction)
        unseen = tuple(ImagePrompt(each.adapter, each.negative, each.weight) for each in seen)
        return Evaluate(
            self.unet,
            group,
            x,
            sigma,
            timestep,
            positive,
            Row(
                self.negative,
                self.sizes.negative if emphasised else self.sizes.true,
                controls,
                self.head,
                unseen,
                self.loras,
            ),
            adaptive_scale(guidance.scale, guidance.mimicked, done),
            filtered_share(guidance.sharpness, done),
            guidance.rescale,
            self.prediction,
        )
