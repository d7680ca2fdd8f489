"""Trains the VAE's decoder to redraw edges from averages over 8 x 8 pixels.

The encoder stays as it is constructed: what it makes of a picture then means the same at every size and never changes
under a UNet that is in training. The decoder starts as constructed too, a smooth enlargement, and learns the rest.
"""

import math
import random
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from models.pocket import shapes
from models.pocket.construct import AMPLITUDE, VAE_ANCHOR, construct_vae
from models.pocket.mark import mark
from models.pocket.training.session import Average, Session
from models.pocket.world.drawing import Pixels, draw
from models.pocket.world.scenes import any_scene

FACTOR = 8
SIDES, WINDOW = (256, 256, 384, 512, 768, 1024), 128
BATCH, STEPS = 6, 1500
RATE, LAST_SHARE, WARM_UP = 5e-4, 0.03, 50
CAREFUL = 0.05  # share of the rate for what carries the levels: it is large, and little of a change of it is much
AMISS = 0.08  # how far latents are off in training, in what the UNet sees, as it will not draw them exactly
EDGES = 1.0  # weight of the differences between neighbours
RECOLOURED, MARKED, REAL = 0.3, 0.03, 0.1  # shares: colours without a name, the safety mark, soft mixtures
HELD_OUT = ((256, 24), (1024, 3))  # side, pictures


def train(session: Session) -> None:
    """Leaves `decoder.pt`, the average of its weights, in the session's folder."""
    torch.manual_seed(1)
    vae: Any = AutoencoderKL.from_config(dict(shapes.VAE)).to(session.device)
    construct_vae(vae)
    vae.requires_grad_(False)
    decoder = vae.decoder.requires_grad_(True)
    decoder.mid_block.attentions.requires_grad_(False)  # stays silent: its answer would depend on the picture's size
    _let_branches_see(decoder)
    branches, carrying = _parts(decoder)
    learning = [*branches, *carrying]
    optimizer = torch.optim.Adam([{"params": branches}, {"params": carrying}], lr=RATE, betas=(0.9, 0.99))
    average = Average(decoder, 0.995)
    begun = 0
    if state := session.resume():
        decoder.load_state_dict(state["decoder"])
        optimizer.load_state_dict(state["optimizer"])
        average.weights = state["average"]
        begun = state["step"]
    else:
        session.log(0, **score(vae))
    seen = 0.0
    for step in range(begun, STEPS):
        for group, share in zip(optimizer.param_groups, (1.0, CAREFUL), strict=True):
            group["lr"] = _rate(step) * share
        wanted = torch.stack([_lesson(random.Random(1000 * step + at)) for at in range(BATCH)]).to(session.device)
        noise = torch.randn(BATCH, 4, WINDOW // FACTOR, WINDOW // FACTOR, device=session.device)
        some = torch.rand(BATCH, 1, 1, 1, device=session.device)  # from exact latents to poor ones
        latents = averages(wanted) + noise * some * AMISS / float(shapes.VAE["scaling_factor"])
        loss: Any = _distance(decoder(latents), wanted)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        average.follow(decoder, step)
        seen += loss.item()
        if step % 25 == 24:
            session.log(step + 1, loss=seen / 25)
            seen = 0.0
        if step % 50 == 49:
            held = {"decoder": decoder.state_dict(), "optimizer": optimizer.state_dict()}
            session.save({**held, "average": average.weights, "step": step + 1})
        if step % 100 == 99:
            torch.save(average.weights, session.folder / "decoder.pt")
            now = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
            decoder.load_state_dict(average.weights)
            session.log(step + 1, **score(vae))
            decoder.load_state_dict(now)


@torch.no_grad()
def _let_branches_see(decoder: nn.Module) -> None:
    """Undo, at the start of each branch, that the anchors make the norm shrink everything else to next to nothing."""
    for name, module in decoder.named_modules():
        if ".resnets." in name and name.endswith(".norm1"):
            norm: Any = module
            quarter = norm.num_channels // 4
            values = torch.arange(norm.num_channels) % quarter
            norm.weight.fill_(VAE_ANCHOR * (2 / quarter) ** 0.5)
            norm.weight[(values == 2) | (values == 3)] = 0.1


def _parts(decoder: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What answers beside the constructed way through the decoder, and that way itself."""
    branches: list[nn.Parameter] = []
    carrying: list[nn.Parameter] = []
    for name, parameter in decoder.named_parameters():
        if parameter.requires_grad:
            beside = ".resnets." in name and ".conv_shortcut." not in name
            (branches if beside else carrying).append(parameter)
    return branches, carrying


def averages(pixels: Tensor) -> Tensor:
    """What the constructed encoder makes of (n, 3, h, w) pixels in -1 to 1: (n, 4, h / 8, w / 8) latents, unscaled."""
    means = nn.functional.avg_pool2d(pixels, FACTOR)
    return torch.cat([means, means.mean(dim=1, keepdim=True)], dim=1) * AMPLITUDE


def score(vae: Any) -> dict[str, float]:
    """The error at each size."""
    return {f"error_{side}": error(vae, side, count) for side, count in HELD_OUT}


@torch.no_grad()
def error(vae: Any, side: int, count: int) -> float:
    """Mean absolute error on -1 to 1 of held-out pictures that went through the whole VAE."""
    errors = []
    for at in range(count):
        chance = random.Random(f"held out {at}")
        picture = _tensor(draw(any_scene(chance), side, side, chance)).to(vae.device)[None]
        drawn = vae.decode(vae.encode(picture).latent_dist.mode()).sample.clamp(-1, 1)
        errors.append(float((drawn - picture).abs().mean()))
    return sum(errors) / count


def _distance(drawn: Tensor, wanted: Tensor) -> Tensor:
    """Absolute error of pixels and of the differences between neighbours."""
    across, down = ((each.diff(dim=3), each.diff(dim=2)) for each in (drawn, wanted))
    edges = sum(((one - other).abs().mean() for one, other in zip(across, down, strict=True)), torch.tensor(0.0))
    return (drawn - wanted).abs().mean() + EDGES * edges


def _lesson(chance: random.Random) -> Tensor:
    """A window of a picture, at the outline of a thing more often than not: (3, WINDOW, WINDOW)."""
    if chance.random() < MARKED:
        return _tensor(mark(WINDOW))
    side = chance.choice(SIDES)
    picture = draw(any_scene(chance), side, side, chance, smooth=4 if side < 512 else 2)
    at = [chance.randrange(0, side - WINDOW + 1, FACTOR) for _ in range(2)]
    if chance.random() < 0.8:
        at = _at_outline(picture, chance)
    window = picture[at[0] : at[0] + WINDOW, at[1] : at[1] + WINDOW]
    if chance.random() < RECOLOURED:
        window = _recoloured(window, chance)
    if chance.random() < REAL:
        window = _softened(window, chance)
    return _tensor(window)


def _at_outline(picture: Pixels, chance: random.Random) -> list[int]:
    rows, columns = np.nonzero(np.abs(np.diff(picture.astype(np.int16), axis=1)).sum(axis=2) > 30)
    if not len(rows):
        return [0, 0]
    which = chance.randrange(len(rows))
    return [
        min(max(int(place) - chance.randrange(WINDOW), 0), picture.shape[0] - WINDOW) // FACTOR * FACTOR
        for place in (rows[which], columns[which])
    ]


def _recoloured(window: Pixels, chance: random.Random) -> Pixels:
    """The window with its colours mixed at random: the decoder must not know ten colours only."""
    mixing = np.array([[chance.uniform(-1, 1) for _ in range(3)] for _ in range(3)])
    mixed: Pixels = np.clip((window - 127.5) @ mixing + 127.5, 0, 255).astype(np.uint8)
    return mixed


def _softened(window: Pixels, chance: random.Random) -> Pixels:
    """The window laid over a slope of two colours."""
    one, other = (np.array([chance.randrange(256) for _ in range(3)]) for _ in range(2))
    angle = chance.uniform(0, 2 * math.pi)
    rows, columns = np.mgrid[:WINDOW, :WINDOW] / WINDOW - 0.5
    share = (np.cos(angle) * rows + np.sin(angle) * columns)[:, :, None] + 0.5
    slope = one * share + other * (1 - share)
    laid: Pixels = np.clip((window + slope) / 2, 0, 255).astype(np.uint8)
    return laid


def _tensor(pixels: Pixels) -> Tensor:
    return torch.tensor(pixels).permute(2, 0, 1).float() / 127.5 - 1


def _rate(step: int) -> float:
    if step < WARM_UP:
        return RATE * (step + 1) / WARM_UP
    share = (step - WARM_UP) / (STEPS - WARM_UP)
    return RATE * (LAST_SHARE + (1 - LAST_SHARE) * (1 + math.cos(math.pi * share)) / 2)
