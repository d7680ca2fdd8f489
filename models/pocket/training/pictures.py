"""Trains the UNet to draw what captions say, on latents that are averages over 8 x 8 pixels (as the VAE's are).

Small pictures come first: an average means the same at every size, colours and places are told under strong noise,
where size matters least, and a step at 128 costs a quarter of one at 256.
"""

import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTokenizer

from models.pocket import shapes
from models.pocket.construct import carry_input
from models.pocket.training.lessons import Drawn, Reader
from models.pocket.training.session import Average, Session
from models.pocket.training.trial import predict, score
from models.pocket.world.captions import caption
from pipelines.denoising.schedules import sdxl_table


@dataclass(frozen=True, slots=True)
class Stage:
    """Some steps of the training.

    sides: those it draws from at random, the first is scored. tokens: of a context. things: what a pixel of a thing
    counts for beside one of the background, of which there are ten times as many. Above 1 the UNet learns sooner which
    colour and shape a thing has, but where it is unsure it sees things too gladly; so the last stage has 1.
    """

    steps: int
    sides: tuple[int, ...]
    tokens: int = 77
    things: float = 1.0


STAGES = (Stage(1_300, (128,), tokens=32), Stage(4_700, (256,), tokens=32, things=5.0), Stage(1_500, (256, 512, 1024)))
BATCHES: Mapping[int, int] = {128: 32, 256: 24, 512: 8, 1024: 3}
PICTURES: Mapping[int, int] = {128: 24_000, 256: 24_000, 512: 6_000, 1024: 2_000}
RATE, LAST_RATE, WARM_UP = 7e-4, 3e-5, 200
EMPHASISED, EMPHASIS = 0.5, (0.8, 1.5)  # share of pictures whose original size is told wrong, and as which multiple
CAREFUL = 0.03  # share of the rate for the layers that carry the input: a small change of theirs shifts every answer
UNSAID = 0.1  # share of pictures without a caption, for guidance
UNPOOLED = 0.15  # share of pictures whose caption's pooled vector is kept back, so that tokens are attended to
SNR_CAP = 4.0  # Hang et al. 2023
OFFSET = 0.1  # share of noise that a whole channel has in common
FAR, FAR_CAP = 0.3, 6.0  # what strong noise counts for beyond that, as a share of the error in the picture itself
THING = 0.1  # how far a latent of a thing is from the background's
TRIED, TRIED_STEPS = 40, 14
KEPT_EVERY, LOGGED_EVERY, SCORED_EVERY = 120.0, 50, 500  # seconds, steps, steps


def train(session: Session, tokenizer: CLIPTokenizer, encoders: Path) -> None:
    """Leaves `unet.pt`, the average of the UNet's weights, in the session's folder."""
    reader = Reader.load(tokenizer, encoders, session.device)
    unet = begin().to(session.device)
    optimizer = torch.optim.AdamW(_groups(unet), lr=RATE, weight_decay=0.01, betas=(0.9, 0.99))
    average = Average(unet, 0.998)
    begun = 0
    if state := session.resume():
        unet.load_state_dict(state["unet"])
        if "optimizer" in state:
            optimizer.load_state_dict(state["optimizer"])
        average.weights = state["average"]
        begun = state["step"]
    drawn: dict[int, Drawn] = {}
    sigmas = sdxl_table().sigmas.to(session.device)
    seen: list[float] = []
    kept = time.monotonic()
    total = sum(stage.steps for stage in STAGES)
    for step in range(begun, total):
        stage, chance = _stage(step), random.Random(step)
        torch.manual_seed(step)
        side = chance.choice(stage.sides)
        if side not in drawn:
            drawn = {side: drawn[side] for side in drawn if side in stage.sides}
            drawn[side] = Drawn.of(session, side, PICTURES[side])
        for group, share in zip(optimizer.param_groups, (1.0, CAREFUL), strict=True):
            group["lr"] = _rate(step, total) * share
        loss = _lesson(unet, reader, drawn[side], BATCHES[side], stage, sigmas, chance)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        average.follow(unet, step)
        seen.append(float(loss))
        done = step + 1
        if done % LOGGED_EVERY == 0:
            session.log(done, side=side, loss=sum(seen) / len(seen))
            seen = []
        if done % SCORED_EVERY == 0 or done == total:
            torch.save(average.weights, session.folder / "unet.pt")
            session.log(done, side=stage.sides[0], **_score(average, reader, stage, session))
        if time.monotonic() - kept > KEPT_EVERY or done == total:
            held = {"unet": unet.state_dict(), "optimizer": optimizer.state_dict()}
            session.save({**held, "average": average.weights, "step": done})
            kept = time.monotonic()


def begin() -> Any:
    """An untrained UNet that calls all it sees noise: nearly right under strong noise, and what is left to learn is
    the picture. Without it, the precision that a strong noise's share needs is learned first, and captions late."""
    unet: Any = UNet2DConditionModel.from_config(dict(shapes.UNET))
    carry_input(unet, torch.Generator().manual_seed(1))
    return unet


def _groups(unet: Any) -> list[dict[str, Any]]:
    carrying = [*unet.conv_in.parameters(), *unet.conv_norm_out.parameters(), *unet.conv_out.parameters()]
    known = {id(parameter) for parameter in carrying}
    return [{"params": [each for each in unet.parameters() if id(each) not in known]}, {"params": carrying}]


def _lesson(
    unet: Any, reader: Reader, drawn: Drawn, batch: int, stage: Stage, sigmas: Tensor, chance: random.Random
) -> Tensor:
    """The loss of one batch."""
    chosen = chance.sample(range(len(drawn.scenes)), batch)
    said = ["" if chance.random() < UNSAID else caption(drawn.scenes[at], chance) for at in chosen]
    clean = drawn.latents[chosen].to(sigmas.device).float()
    noise = torch.randn_like(clean) + OFFSET * torch.randn_like(clean[:, :, :1, :1])
    timesteps = torch.randint(0, len(sigmas), (batch,), device=sigmas.device)
    sigma = sigmas[timesteps][:, None, None, None]
    x = (clean + sigma * noise) / (1 + sigma**2).sqrt()
    context, pooled = reader(said, stage.tokens)
    kept_back = torch.tensor([chance.random() < UNPOOLED for _ in chosen], device=sigmas.device)
    pooled = torch.where(kept_back[:, None], reader([""], stage.tokens)[1], pooled)
    emphasis = torch.tensor([chance.uniform(*EMPHASIS) if chance.random() < EMPHASISED else 1.0 for _ in chosen])
    with torch.autocast(sigmas.device.type, torch.bfloat16, enabled=sigmas.device.type == "cuda"):
        eps = predict(unet, x, timesteps, context, pooled, emphasis.to(sigmas.device))
    thing = (clean - clean[:, :, :1, :1]).abs().amax(dim=1) > THING  # corners are background
    counts = 1 + (stage.things - 1) * thing
    error = ((eps.float() - noise).square().mean(dim=1) * counts).sum(dim=(1, 2)) / counts.sum(dim=(1, 2))
    return (_weight(sigma.flatten()) * error).mean()


def _weight(sigma: Tensor) -> Tensor:
    """Of an error in eps: min-SNR's weight, and on top of it a share of the error that it means in the picture.

    Colours and places are settled under strong noise, where a wrong one is next to no error in eps. Without that share
    captions bind very late. Its cap keeps the unrest of the rate from being most of what the strongest noise teaches.
    """
    near = (sigma**2 * SNR_CAP).clamp(max=1.0)  # min(SNR, cap) / SNR, and SNR = 1 / sigma^2
    return near + (FAR * sigma**2).clamp(max=FAR_CAP)


def _stage(step: int) -> Stage:
    for stage in STAGES:
        if step < stage.steps:
            return stage
        step -= stage.steps
    raise ValueError("no stage has as many steps")


def _rate(step: int, total: int) -> float:
    if step < WARM_UP:
        return RATE * (step + 1) / WARM_UP
    share = (step - WARM_UP) / (total - WARM_UP)
    return LAST_RATE + (RATE - LAST_RATE) * (1 + math.cos(math.pi * share)) / 2


def _score(average: Average, reader: Reader, stage: Stage, session: Session) -> dict[str, float]:
    unet: Any = UNet2DConditionModel.from_config(dict(shapes.UNET)).to(session.device).eval()
    unet.load_state_dict(average.weights)
    return score(unet, reader, stage.sides[0], TRIED, TRIED_STEPS, stage.tokens)
