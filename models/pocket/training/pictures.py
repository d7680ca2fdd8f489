"""Trains the UNet to draw what captions say, on latents that are averages over 8 x 8 pixels (as the VAE's are)."""

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from rich.progress import track
from torch import Tensor, nn
from transformers import CLIPTokenizer

from models.pocket import shapes
from models.pocket.construct import AMPLITUDE
from models.pocket.training.session import Average, Session
from models.pocket.training.texts import make_encoders
from models.pocket.world.captions import caption
from models.pocket.world.drawing import draw
from models.pocket.world.oracle import Oracle
from models.pocket.world.scenes import Scene, any_scene
from pipelines.conditioning import TextEncoders
from pipelines.denoising.samplers import dpmpp_2m
from pipelines.denoising.schedules import karras, sdxl_table

SIDE, FACTOR = 256, 8
SCALE = AMPLITUDE * float(shapes.VAE["scaling_factor"])  # of a latent that the UNet sees, per unit of an average
PICTURES, BATCH, STEPS = 24_000, 48, 10_000
RATE, LAST_RATE, WARM_UP = 1e-3, 5e-5, 300
UNSAID = 0.1  # share of pictures without a caption, for guidance
SNR_CAP = 5.0  # Hang et al. 2023
OFFSET = 0.1  # share of noise that a whole channel has in common
FAR = 0.2  # what strong noise counts for beyond that, as a share of the error in the picture itself
TRIED, TRIED_STEPS, TRIED_SCALE = 40, 14, 4.0


def latents_of(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """(4, h / 8, w / 8): averages of red, green, blue and of all three, as the constructed VAE encodes them."""
    picture = torch.tensor(pixels).permute(2, 0, 1).float() / 127.5 - 1
    means = nn.functional.avg_pool2d(picture, FACTOR)
    return torch.cat([means, means.mean(dim=0, keepdim=True)]) * SCALE


def train(session: Session, tokenizer: CLIPTokenizer, encoders: Path) -> None:
    """Train the UNet at 256 x 256. Leaves `unet.pt`, the average of its weights, in the session's folder."""
    texts: TextEncoders = make_encoders(len(tokenizer))
    for encoder, weights in zip(texts, torch.load(encoders, weights_only=True), strict=True):
        encoder.load_state_dict(weights)
        nn.Module.to(encoder, session.device).train(False).requires_grad_(False)
    unet: Any = UNet2DConditionModel.from_config(dict(shapes.UNET)).to(session.device)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=RATE, weight_decay=0.01, betas=(0.9, 0.99))
    average = Average(unet, 0.999)
    begun = 0
    if state := session.resume():
        unet.load_state_dict(state["unet"])
        optimizer.load_state_dict(state["optimizer"])
        average.weights = state["average"]
        begun = state["step"]
    scenes, latents = _pictures(session)
    sigmas = sdxl_table().sigmas.to(session.device)
    seen = 0.0
    for step in range(begun, STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step)
        chance = random.Random(step)
        chosen = chance.sample(range(len(scenes)), BATCH)
        said = ["" if chance.random() < UNSAID else caption(scenes[at], chance) for at in chosen]
        clean = latents[chosen].to(session.device).float()
        noise = torch.randn_like(clean) + OFFSET * torch.randn_like(clean[:, :, :1, :1])
        timesteps = torch.randint(0, len(sigmas), (BATCH,), device=session.device)
        sigma = sigmas[timesteps][:, None, None, None]
        x = (clean + sigma * noise) / (1 + sigma**2).sqrt()
        with torch.no_grad():
            context, pooled = _encode(said, tokenizer, texts)
        with torch.autocast(session.device.type, torch.bfloat16):
            eps = _predict(unet, x, timesteps, context, pooled)
        error = (eps.float() - noise).square().mean(dim=(1, 2, 3))
        loss = (_weight(sigma.flatten()) * error).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        average.follow(unet, step)
        seen += float(loss)
        if step % 50 == 49:
            session.log(step + 1, loss=seen / 50)
            seen = 0.0
        if step % 250 == 249:
            session.save(
                {
                    "unet": unet.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "average": average.weights,
                    "step": step + 1,
                }
            )
        if step % 500 == 499:
            session.log(step + 1, **_score(average, tokenizer, texts, session))
            torch.save(average.weights, session.folder / "unet.pt")


def _weight(sigma: Tensor) -> Tensor:
    """Of an error in eps: min-SNR's weight, and on top of it a share of the error that it means in the picture.

    Colours and places are settled under strong noise, where a wrong one is next to no error in eps. Without that share
    captions bind very late.
    """
    near = (sigma**2 * SNR_CAP).clamp(max=1.0)  # min(SNR, cap) / SNR, and SNR = 1 / sigma^2
    return near + FAR * sigma**2


def _rate(step: int) -> float:
    if step < WARM_UP:
        return RATE * (step + 1) / WARM_UP
    share = (step - WARM_UP) / (STEPS - WARM_UP)
    return LAST_RATE + (RATE - LAST_RATE) * (1 + math.cos(math.pi * share)) / 2


def _pictures(session: Session) -> tuple[list[Scene], Tensor]:
    """The scenes, the same each time, and their latents (n, 4, 32, 32), which are kept for the next start."""
    chance = random.Random(7)
    scenes = [any_scene(chance) for _ in range(PICTURES)]
    kept = session.folder / "latents.pt"
    if not kept.is_file():
        drawn = [
            latents_of(draw(scene, SIDE, SIDE, random.Random(at), smooth=1)).half()
            for at, scene in enumerate(track(scenes, "drawing", console=session.console))
        ]
        torch.save(torch.stack(drawn), kept)
    found: Tensor = torch.load(kept, weights_only=True)
    return scenes, found


def _encode(said: list[str], tokenizer: CLIPTokenizer, texts: TextEncoders) -> tuple[Tensor, Tensor]:
    """As `pipelines.conditioning` encodes captions of one chunk, but all at once."""
    device = texts[0].device
    ids = tokenizer(said, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    ids = ids.to(device)
    end = int(tokenizer.eos_token_id)
    after = (ids == end).cumsum(dim=1) > 1
    padded = (ids == end) & after
    first = texts[0](input_ids=ids, output_hidden_states=True)
    second = texts[1](input_ids=ids.masked_fill(padded, 0), output_hidden_states=True)
    return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1), second.text_embeds


def _predict(unet: Any, x: Tensor, timesteps: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
    height, width = (side * FACTOR for side in x.shape[-2:])
    sizes = torch.tensor([height, width, 0, 0, height, width], device=x.device).float().expand(len(x), 6)
    added = {"text_embeds": pooled, "time_ids": sizes}
    eps: Tensor = unet(x, timesteps, context, added_cond_kwargs=added, return_dict=False)[0]
    return eps


@torch.no_grad()
def _score(average: Average, tokenizer: CLIPTokenizer, texts: TextEncoders, session: Session) -> dict[str, float]:
    """Draw held-out captions of one thing and have the oracle read them: shares of what is right."""
    unet: Any = UNet2DConditionModel.from_config(dict(shapes.UNET)).to(session.device).eval()
    unet.load_state_dict(average.weights)
    chance = random.Random(99)
    scenes: list[Scene] = []
    while len(scenes) < TRIED:
        scene = any_scene(chance)
        if len(scene.things) == 1:
            scenes.append(scene)
    said = [caption(scene, chance, complete=True) for scene in scenes]
    positive, negative = (_encode(each, tokenizer, texts) for each in (said, [""] * TRIED))
    table = sdxl_table()
    sigmas = karras(table, TRIED_STEPS)
    noise = torch.randn(TRIED, 4, SIDE // FACTOR, SIDE // FACTOR, generator=torch.Generator().manual_seed(1))
    sampler = dpmpp_2m(noise.to(session.device) * float(1 + sigmas[0] ** 2) ** 0.5, sigmas)
    try:
        x, sigma = next(sampler)
        while True:
            at = torch.full((2 * TRIED,), table.timestep(sigma), device=session.device)
            both = (torch.cat(pair) for pair in zip(negative, positive, strict=True))
            eps = _predict(unet, torch.cat([x, x]) / (1 + sigma**2) ** 0.5, at, *both)
            without, led = eps.chunk(2)
            x, sigma = sampler.send(x - sigma * (without + TRIED_SCALE * (led - without)))
    except StopIteration as end:
        drawn = end.value
    pictures = (drawn[:, :3] / SCALE).clamp(-1, 1).add(1).mul(127.5)
    large = nn.functional.interpolate(pictures, scale_factor=FACTOR, mode="bilinear").permute(0, 2, 3, 1)
    oracle = Oracle()
    right = {"background": 0, "colour": 0, "shape": 0, "place": 0, "size": 0}
    for scene, pixels in zip(scenes, large.cpu().numpy().astype(np.uint8), strict=True):
        found = oracle.read(pixels)
        if found is None:
            continue
        thing, wanted = found.things[0], scene.things[0]
        right["background"] += found.background == scene.background
        for name in ("colour", "shape", "place", "size"):
            right[name] += getattr(thing, name) == getattr(wanted, name)
    return {name: count / TRIED for name, count in right.items()}
