"""Evaluations over SDXL of random weights: alike, guided as Fooocus guides, and of every kind of row there is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.controlnets.controlnet import ControlNetModel
from torch import Tensor, nn

from benchmarks.sdxl import FACTOR, LATENT_CHANNELS, Models, default_dtype
from pipelines.unet.branches import LoraAdapter, RowLora
from pipelines.unet.guide import Evaluate, Guidance, Guide, SizeIds
from pipelines.unet.rows import ControlBranch, ImageAdapter, ImagePrompt, Row
from pipelines.weights.lora.changes import LowRank

SIGMA, TIMESTEP = 1.0, 500
SMALL = 0.02  # deviation of random weights, so that no row's values run away
IMAGE_TOKENS, RANK = 16, 8
UNGUIDED = Guidance(scale=1.0)
FOOOCUS = Guidance(scale=4.0, mimicked=7.0, sharpness=2.0)  # what Fooocus guides with by default
UNLIKE_ROWS = 8


def guide(models: Models, side: int, seed: int, guidance: Guidance) -> Guide:
    """What leads one picture: random conditioning, with a negative one unless the scale is 1."""
    ids = models.size_ids(side)
    negative = None if guidance.scale == 1 else models.conditioning(seed + 100)
    return Guide(models.unet, models.conditioning(seed), negative, guidance, SizeIds(ids, ids, ids))


def evaluations(models: Models, side: int, count: int, guidance: Guidance) -> list[Evaluate]:
    """Evaluations of as many pictures, one row each, or two with guidance."""
    return [
        guide(models, side, seed, guidance).evaluate(_latent(models, side, seed), SIGMA, TIMESTEP)
        for seed in range(count)
    ]


@dataclass(frozen=True, eq=False)
class Additions:
    """What rows may carry besides their prompts, of random weights; made once, for it takes time and memory."""

    control: ControlNetModel
    images: ImageAdapter
    lora: LoraAdapter

    @classmethod
    def build(cls, models: Models) -> "Additions":
        return cls(_control(models), _image_adapter(models), _lora(models))

    def unlike(self, models: Models, side: int) -> list[Evaluate]:
        """Six evaluations in `UNLIKE_ROWS` rows: with a control, a head, two image prompts, a LoRA; two guided ones,
        one of which carries all of them."""
        latent, width = side // FACTOR, models.unet.config["block_out_channels"][0]
        tokens = _random(models, 1, IMAGE_TOKENS, models.unet.config["cross_attention_dim"])
        control = (ControlBranch(self.control, _random(models, 2, width, latent, latent), 0.7),)
        head = _random(models, 3, width, latent, latent)
        images = (ImagePrompt(self.images, tokens, 0.6), ImagePrompt(self.images, tokens.flip(0), 0.3))
        loras = (RowLora(self.lora, 0.8),)

        def laden(row: Row) -> Row:
            return replace(row, controls=control, head=head, images=images, loras=loras)

        alone = evaluations(models, side, 4, UNGUIDED)
        rows = [
            replace(alone[0].positive, controls=control),
            replace(alone[1].positive, head=head),
            replace(alone[2].positive, images=images),
            replace(alone[3].positive, loras=loras),
        ]
        plain, all_of_it = evaluations(models, side, 2, FOOOCUS)
        negative = None if all_of_it.negative is None else laden(all_of_it.negative)
        return [
            *(replace(each, positive=row) for each, row in zip(alone, rows, strict=True)),
            plain,
            replace(all_of_it, positive=laden(all_of_it.positive), negative=negative),
        ]


def difference(asks: Sequence[Evaluate], answers: Sequence[Tensor], plain: Sequence[Tensor]) -> float:
    """The largest difference between two answers, relative to the deviation of the noise that the plain one predicts.

    An answer is a clean latent, x - sigma * eps; what is compared is eps.
    """
    worst = 0.0
    for ask, answer, other in zip(asks, answers, plain, strict=True):
        deviation = ((ask.x - other) / ask.sigma).std()
        worst = max(worst, float(((answer - other) / ask.sigma).abs().max() / deviation))
    return worst


def _latent(models: Models, side: int, seed: int) -> Tensor:
    return _random(models, seed, LATENT_CHANNELS, side // FACTOR, side // FACTOR).float()


def _random(models: Models, seed: int, *shape: int) -> Tensor:
    generator = torch.Generator(models.device).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=models.device).to(models.dtype)


def _control(models: Models) -> ControlNetModel:
    """Its last convolutions, which are zero to begin with, are not: else it would add nothing."""
    with default_dtype(models.dtype), models.device:
        network: ControlNetModel = ControlNetModel.from_unet(models.plain, load_weights_from_unet=False)
    for last in (network.controlnet_down_blocks, network.controlnet_mid_block):
        for parameter in last.parameters():
            nn.init.normal_(parameter, std=SMALL)
    return network.eval().requires_grad_(False)


def _image_adapter(models: Models) -> ImageAdapter:
    wide = models.unet.config["cross_attention_dim"]
    projections = {}
    for at, (place, module) in enumerate(models.unet.named_modules()):
        if isinstance(module, Attention) and module.is_cross_attention:
            width = module.to_k.out_features
            projections[place] = tuple(SMALL * _random(models, 2 * at + one, width, wide) for one in range(2))
    return ImageAdapter({place: (keys, values) for place, (keys, values) in projections.items()})


def _lora(models: Models) -> LoraAdapter:
    """Of the attentions' queries and keys and of the residual blocks' first convolutions."""
    layers = {}
    for at, (place, module) in enumerate(models.unet.named_modules()):
        if isinstance(module, nn.Linear) and place.endswith((".to_q", ".to_k")):
            down: tuple[int, ...] = RANK, module.in_features
            up: tuple[int, ...] = module.out_features, RANK
        elif isinstance(module, nn.Conv2d) and place.endswith(".conv1"):
            down, up = (RANK, module.in_channels, *module.kernel_size), (module.out_channels, RANK, 1, 1)
        else:
            continue
        layers[place] = LowRank(SMALL * _random(models, 2 * at, *down), SMALL * _random(models, 2 * at + 1, *up))
    return LoraAdapter(layers)
