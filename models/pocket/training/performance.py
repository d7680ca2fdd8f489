"""Trains the LoRAs of the performance modes: pictures in 8 or 4 steps without guidance.

Each learns to see at once what the trained UNet, guided, draws in several steps from the same noise. Such a guess of
the end can be noised again (LCM's sampler, 8 steps) or followed straight on (Euler's, 4 steps); so the two differ only
in the noise levels at which they are trained.
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
from models.pocket.training.adapter import Adapter, Changed
from models.pocket.training.lessons import FACTOR, Drawn, Reader, pixels_of
from models.pocket.training.session import Average, Session
from models.pocket.training.trial import SCALE, predict
from models.pocket.world.captions import caption
from models.pocket.world.exam import held_out, marks
from pipelines.denoising.guidance import consistency
from pipelines.denoising.samplers import Sampler, dpmpp_2m, euler, lcm
from pipelines.denoising.schedules import NoiseTable, lcm_table, sdxl_table, sgm_uniform


@dataclass(frozen=True, slots=True)
class Mode:
    """A performance mode. distilled: whether it runs on LCM's levels, with LCM's boundary condition."""

    steps: int
    distilled: bool

    def table(self) -> NoiseTable:
        return lcm_table(sdxl_table()) if self.distilled else sdxl_table()

    def levels(self) -> list[float]:
        """Sigmas to train at: all of LCM's, so that other numbers of steps work too, or just those of the run."""
        chosen = self.table().sigmas if self.distilled else sgm_uniform(self.table(), self.steps)[:-1]
        return [float(sigma) for sigma in chosen]


MODES: Mapping[str, Mode] = {"extreme_speed": Mode(8, distilled=True), "lightning": Mode(4, distilled=False)}
RANK = 16
BATCHES: Mapping[int, int] = {256: 12, 512: 4, 1024: 1}
PICTURES: Mapping[int, int] = {256: 24_000, 512: 6_000, 1024: 2_000}
SIDES = (256, 256, 256, 512, 512, 1024)
STEPS, RATE, WARM_UP = 800, 1e-3, 50
TAUGHT_IN = 6  # steps that the teacher takes from any level
TOKENS = 32
TRIED = 40
KEPT_EVERY, LOGGED_EVERY, SCORED_EVERY = 120.0, 25, 100  # seconds, steps, steps


def train(
    session: Session, mode: Mode, tokenizer: CLIPTokenizer, encoders: Path, weights: Path, drawings: Path
) -> None:
    """Leaves `lora.pt`, the averaged change in kohya's layout, in the session's folder.

    encoders, weights: of the trained text encoders and UNet. drawings: the folder that the UNet's training left.
    """
    reader = Reader.load(tokenizer, encoders, session.device)
    unet: Any = UNet2DConditionModel.from_config(dict(shapes.UNET)).to(session.device)
    unet.load_state_dict(torch.load(weights, map_location=session.device, weights_only=True))
    unet.requires_grad_(False)
    adapter = Adapter(unet, RANK).to(session.device)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=RATE, betas=(0.9, 0.99))
    average = Average(adapter, 0.99)
    begun = 0
    if state := session.resume():
        adapter.load_state_dict(state["adapter"])
        optimizer.load_state_dict(state["optimizer"])
        average.weights = state["average"]
        begun = state["step"]
    else:
        session.log(0, **_score(unet, reader, mode))
    drawn: dict[int, Drawn] = {}
    levels = mode.levels()
    seen: list[float] = []
    kept = time.monotonic()
    for step in range(begun, STEPS):
        chance = random.Random(step)
        torch.manual_seed(step)
        side = chance.choice(SIDES)
        if side not in drawn:
            drawn[side] = Drawn.of(Session(drawings, session.device, session.console), side, PICTURES[side])
        for group in optimizer.param_groups:
            group["lr"] = _rate(step)
        loss = _lesson(unet, adapter, reader, drawn[side], BATCHES[side], chance.choice(levels), mode, chance)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(adapter.parameters(), 1.0)
        optimizer.step()
        average.follow(adapter, step)
        seen.append(float(loss))
        done = step + 1
        if done % LOGGED_EVERY == 0:
            session.log(done, loss=sum(seen) / len(seen))
            seen = []
        if done % SCORED_EVERY == 0 or done == STEPS:
            now = {name: tensor.clone() for name, tensor in adapter.state_dict().items()}
            adapter.load_state_dict(average.weights)
            torch.save(adapter.stored(), session.folder / "lora.pt")
            with torch.no_grad():
                session.log(done, **_score(Changed(unet, adapter.weights(unet)), reader, mode))
            adapter.load_state_dict(now)
        if time.monotonic() - kept > KEPT_EVERY or done == STEPS:
            held = {"adapter": adapter.state_dict(), "optimizer": optimizer.state_dict()}
            session.save({**held, "average": average.weights, "step": done})
            kept = time.monotonic()


def _lesson(
    unet: Any,
    adapter: Adapter,
    reader: Reader,
    drawn: Drawn,
    batch: int,
    sigma: float,
    mode: Mode,
    chance: random.Random,
) -> Tensor:
    """By how much the guess of the end differs from where the guided UNet comes to: one level, one batch."""
    chosen = chance.sample(range(len(drawn.scenes)), batch)
    said = [caption(drawn.scenes[at], chance) for at in chosen]
    device = unet.conv_in.weight.device
    clean = drawn.latents[chosen].to(device).float()
    if sigma > 0.99 * sdxl_table().sigma_max:
        clean = torch.zeros_like(clean)  # as a run begins
    x = clean + sigma * torch.randn_like(clean)
    told, without = reader(said, TOKENS), reader([""] * batch, TOKENS)
    with torch.no_grad():
        wanted = _taught(unet, x, sigma, told, without)
    guess = _clean(Changed(unet, adapter.weights(unet)), x, sigma, *told)
    if mode.distilled:
        guess = consistency(guess, x, sdxl_table().timestep(sigma))
    return nn.functional.smooth_l1_loss(guess, wanted, beta=0.1)


def _taught(unet: Any, x: Tensor, sigma: float, told: tuple[Tensor, Tensor], without: tuple[Tensor, Tensor]) -> Tensor:
    """Where the guided UNet comes to from x at sigma."""
    last = sdxl_table().sigma_min
    ramp = torch.linspace(0, 1, TAUGHT_IN)
    between = (sigma ** (1 / 7) + ramp * (min(last, sigma) ** (1 / 7) - sigma ** (1 / 7))) ** 7
    sigmas = torch.cat([between.unique().flip(0), torch.zeros(1)])

    def guided(at: Tensor, level: float) -> Tensor:
        both = (torch.cat(pair) for pair in zip(without, told, strict=True))
        unled, led = _clean(unet, torch.cat([at, at]), level, *both).chunk(2)
        return unled + SCALE * (led - unled)

    return _run(dpmpp_2m(x, sigmas), guided)


def _clean(unet: Any, x: Tensor, sigma: float, context: Tensor, pooled: Tensor) -> Tensor:
    at = torch.full((len(x),), sdxl_table().timestep(sigma), device=x.device)
    return x - sigma * predict(unet, x / (1 + sigma**2) ** 0.5, at, context, pooled)


def _run(sampler: Sampler, answer: Any) -> Tensor:
    try:
        x, sigma = next(sampler)
        while True:
            x, sigma = sampler.send(answer(x, sigma))
    except StopIteration as end:
        drawn: Tensor = end.value
    return drawn


@torch.no_grad()
def _score(unet: Any, reader: Reader, mode: Mode, side: int = 256) -> dict[str, float]:
    """The marks of held-out captions in the mode's own few steps."""
    scenes, said = held_out(TRIED)
    told = reader(said, TOKENS)
    chance = torch.Generator().manual_seed(1)
    table = mode.table()
    sigmas = sgm_uniform(table, mode.steps)

    def noise(*_: float) -> Tensor:
        return torch.randn(TRIED, 4, side // FACTOR, side // FACTOR, generator=chance).to(told[0].device)

    def answer(x: Tensor, sigma: float) -> Tensor:
        clean = _clean(unet, x, sigma, *told)
        return consistency(clean, x, table.timestep(sigma)) if mode.distilled else clean

    x = noise() * float(1 + sigmas[0] ** 2) ** 0.5
    end = _run(lcm(x, sigmas, noise) if mode.distilled else euler(x, sigmas), answer)
    return marks(scenes, list(pixels_of(end)))


def _rate(step: int) -> float:
    if step < WARM_UP:
        return RATE * (step + 1) / WARM_UP
    return RATE * (1 + math.cos(math.pi * (step - WARM_UP) / (STEPS - WARM_UP))) / 2
