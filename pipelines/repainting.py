"""How a hole in a picture is drawn: what its images share, and what each of them keeps (fooocus-facts 6.5 to 6.9)."""

from dataclasses import dataclass, replace

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from pipelines.device import Device
from pipelines.engine.tasks import Routine
from pipelines.events import Pixels
from pipelines.images.masks import HOLE
from pipelines.images.paste import paste_area
from pipelines.images.resize import centre_of
from pipelines.inputs import Hole
from pipelines.stages.fill import fill
from pipelines.stages.upscale import EnlargingJob, enlarge, to_pixels
from pipelines.stages.vae import Picture, encode
from pipelines.unet.guide import Guide
from pipelines.weights.inpaint import head_feature

SWITCH = 0.8  # share of the steps after which the inpaint model gives way to the base (fooocus-facts 4.6)
FILLED_ABOVE = 0.99  # of the strength; at it and below the run begins from what is there
GRAY = 127.5  # of 255, in the hole that the head is shown


@dataclass(frozen=True, eq=False)
class HolePictures:
    """What the images of a job share, at the size to draw.

    fill, around: of the area, with its hole filled, where it is to be, and with it gray. mask: (1, h, w), 1 in it.
    """

    fill: Picture
    around: Picture
    mask: Tensor


@dataclass(frozen=True, eq=False)
class Repaint:
    """What is kept of a picture while its hole is drawn.

    mask: (1, h, w), 1 where it is drawn. original: a scaled latent.
    """

    mask: Tensor
    original: Tensor


def read_hole(hole: Hole, enlarging: EnlargingJob | None, device: Device) -> Routine[HolePictures]:
    """Ask for what the images of a job share. enlarging: of the area, by a family that has an upscaler."""
    area = device.upload(torch.tensor(hole.area))
    if enlarging is not None:
        area = to_pixels((yield from enlarge(enlarging)))
    filled = area
    if hole.canvas.acting_strength > FILLED_ABOVE:
        filled = yield from fill(area, hole.marked, device)
    around = area.float().masked_fill(device.upload(torch.tensor(hole.marked > HOLE))[:, :, None], GRAY)
    height, width = hole.marked.shape
    centre = centre_of((height, width), (hole.size.height, hole.size.width))
    return HolePictures(filled[centre], around[centre], device.upload(torch.tensor(hole.repainted))[None])


def read_around(
    pictures: HolePictures,
    guide: Guide,
    head: Tensor | None,
    seed: int,
    device: Device,
    vae: AutoencoderKL | None = None,
) -> Routine[tuple[Guide, Repaint]]:
    """Ask for what one image keeps, and what leads it: the guide with the head's feature where there is a head.

    vae: of the latents that it is drawn in; None for the family's.
    """
    original = yield from encode(pictures.fill, seed, device, vae)
    if head is not None:
        around = yield from encode(pictures.around, seed, device)
        here = head.to(pictures.mask.device)  # where the weights rest it may be elsewhere
        guide = replace(guide, head=head_feature(here, pictures.mask[None], around[None])[0])
    return guide, Repaint(pictures.mask, original)


def put_back(drawn: Pixels, hole: Hole) -> Pixels:
    """The whole picture, (H, W, 3), with what was drawn in its hole."""
    return paste_area(drawn, hole.box, hole.whole, hole.mask)
