"""Gate 10, the refiner: with it at the end of a run, what should be plain is plainer and nothing else is lost."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.pocket.acceptance.metric import Metric
from benchmarks.pocket.latents import FACTOR, pixels_of
from benchmarks.pocket.reader import TOKENS, Reader
from benchmarks.pocket.sampling import draw_latents
from benchmarks.pocket.world.exam import accuracy, held_out
from models.pocket import names, shapes
from pipelines.denoising.schedules import karras, sdxl_table
from pipelines.weights.checkpoint import load_unet
from pipelines.weights.family import Family

SWITCH = 0.8  # share of a run's steps, fal's default; it takes over after the step there
CORNER = 4  # side, in latents, of what is surely background
PLAINER = 0.9  # of the grain that the UNet alone leaves
LOST = 0.05  # share of shapes that may be read less well
AESTHETIC_SCORE = 6.0  # that the refiner is told of every picture, where nothing else is asked for


def refines(family: Family, count: int, steps: int = 30) -> list[Metric]:
    reader = Reader(family.tokenizers[0], family.text_encoders)
    alone = score(reader, family.unet, count, steps)
    root = family.catalogue.root
    unet = load_unet(root / names.REFINER, root / "refiner_config" / "unet", torch.device("cpu"), torch.float32)
    joint = score(reader, Joint(family.unet, unet, steps), count, steps)
    return [
        Metric("refiner: grain", joint["grain"], PLAINER * alone["grain"], below=True),
        Metric("refiner: shape", joint["shape"], alone["shape"] - LOST),
        Metric("refiner: colour", joint["colour"], alone["colour"] - LOST),
    ]


def refine(refiner: Any, x: Tensor, timesteps: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
    """eps (n, 4, h, w) for x (n, 4, h, w), which is scaled to unit variance. context: of both text encoders."""
    height, width = (side * FACTOR for side in x.shape[-2:])
    added = {"text_embeds": pooled, "time_ids": refiner_size_ids(height, width, len(x)).to(x.device)}
    second = context[..., -shapes.SECOND_WIDTH :]
    eps: Tensor = refiner(x, timesteps, second, added_cond_kwargs=added, return_dict=False)[0]
    return eps


def refiner_size_ids(height: int, width: int, rows: int) -> Tensor:
    """(rows, 5): original size in pixels, what is cropped, the score."""
    return torch.tensor([float(height), float(width), 0.0, 0.0, AESTHETIC_SCORE]).repeat(rows, 1)


class Joint:
    """The UNet, and after its share of the steps of a run on Karras' levels the refiner (fooocus-facts 4.6)."""

    def __init__(self, unet: Any, refiner: Any, steps: int) -> None:
        self._unet, self._refiner = unet, refiner
        table = sdxl_table()
        self._last = table.timestep(float(karras(table, steps)[round(SWITCH * steps)]))

    def __call__(self, x: Tensor, timesteps: Tensor, context: Tensor, **given: Any) -> Any:
        if float(timesteps[0]) >= self._last:
            return self._unet(x, timesteps, context, **given)
        return (refine(self._refiner, x, timesteps, context, given["added_cond_kwargs"]["text_embeds"]),)


@torch.no_grad()
def score(reader: Reader, unet: Any, count: int, steps: int) -> dict[str, float]:
    """Accuracy of held-out captions, and how uneven what should be plain is: the deviation of latents in a corner."""
    scenes, said = held_out(count)
    drawn = draw_latents(unet, reader, said, 256, steps, TOKENS)
    grain = float(drawn[:, :3, :CORNER, :CORNER].flatten(2).std(dim=2).mean())
    return accuracy(scenes, list(pixels_of(drawn))) | {"grain": grain}
