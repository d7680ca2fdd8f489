"""Trains the control-LoRAs: the UNet draws its things where a hint picture shows edges (canny) or structure (CPDS)."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from rich.progress import track
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.pocket.acceptance.structure import overlap, placeless
from benchmarks.pocket.latents import pixels_of
from benchmarks.pocket.reader import TOKENS
from benchmarks.pocket.sampling import draw_latents, predict
from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.drawing import Pixels, draw
from benchmarks.pocket.world.scenes import Scene
from models.pocket import shapes
from pipelines.preparing import STRUCTURES
from pipelines.spec import StructureKind
from pipelines.weights.control_lora import MARKER, softness_ramp, stored_name
from training.pocket.adapter import Adapter
from training.pocket.frozen_models import FrozenModels, Noised, counts
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan, follow

RANK, BATCH = 16, 10
PLAN = Plan(steps=500, rate=2e-3, sides=(256,))
NOISE = (1.5, 14.0)  # under less noise it can be seen where things are
OWN = ("controlnet_cond_embedding", "controlnet_down_blocks", "controlnet_mid_block")  # what a file holds in full
UNSAID = 0.3  # share of captions that are empty, so that the hint alone must do
SIDE, HINTED = 256, 2_000  # pictures that have hints, which are slow to make
TRIED, TRIED_STEPS = 12, 12


class Control(nn.Module):
    """A control network that shares the UNet's weights but for a low-rank change, with hint encoder and outputs."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        network: Any = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=shapes.HINT_WIDTHS)
        # its end begins with nothing, as the outputs do: what begins with two nothings is learned late
        network.controlnet_cond_embedding.conv_out.reset_parameters()
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith(OWN))
        self.network = network
        self.change = Adapter(network, RANK, lambda name: not name.startswith(OWN))

    def residuals(self, x: Tensor, timesteps: Tensor, context: Tensor, pooled: Tensor, hints: Tensor) -> dict[str, Any]:
        """What the UNet is given beside its input. hints: (n, 3, height, width) of 0..1."""
        height, width = hints.shape[-2:]
        sizes = torch.tensor([height, width, 0, 0, height, width], device=x.device).float().repeat(len(x), 1)
        added = {"text_embeds": pooled, "time_ids": sizes}
        given = {"controlnet_cond": hints, "added_cond_kwargs": added, "return_dict": False}
        down, middle = functional_call(self.network, self.change.weights(), (x, timesteps, context), given)
        *factors, last = softness_ramp(len(down) + 1)
        softened = tuple(factor * residual for factor, residual in zip(factors, down, strict=True))
        return {"down_block_additional_residuals": softened, "mid_block_additional_residual": last * middle}

    def stored(self, unet: Any) -> dict[str, Tensor]:
        """As a control-LoRA's file names it."""
        found: dict[str, Tensor] = {MARKER: torch.zeros(0)}
        for name, down, up in self.change.parts():
            layer = stored_name(f"{name}.weight", self.network, unet).removesuffix(".weight")
            found[f"{layer}.down"], found[f"{layer}.up"] = down, up
        for name, parameter in self.network.named_parameters():
            if name.startswith(OWN) or name.endswith(".bias"):
                found[stored_name(name, self.network, unet)] = parameter.detach()
        return found


def train(run_dir: RunDir, frozen: FrozenModels, kind: StructureKind) -> None:
    """Leaves `weights.pt`, as its file stores it, in the run's folder. kind: of its hints."""
    control = Control(frozen.unet).to(run_dir.device)
    drawn = frozen.drawn(SIDE)
    kept = _kept_hints(run_dir, drawn.scenes, kind)

    def lesson(chance: random.Random, side: int) -> Tensor:
        chosen = chance.sample(range(HINTED), BATCH)
        clean = drawn.latents[chosen].to(frozen.device).float()
        noised = Noised.of(clean, *NOISE)
        said = ["" if chance.random() < UNSAID else caption(drawn.scenes[at], chance, sited=False) for at in chosen]
        told = frozen.told(said)
        hints = kept[chosen].to(frozen.device).float().div(255).expand(-1, 3, -1, -1)
        more = control.residuals(noised.x, noised.timesteps, *told, hints)
        return noised.loss(predict(frozen.unet, noised.x, noised.timesteps, *told, **more), counts(clean))

    def exam() -> Mapping[str, float]:
        return {f"iou_{weight}": _overlap(frozen, control, kind, weight) for weight in (0.0, 1.0)}

    follow(run_dir, control, PLAN, lesson, exam)
    torch.save(control.stored(frozen.unet), run_dir.folder / "weights.pt")


def _overlap(frozen: FrozenModels, control: Control, kind: StructureKind, weight: float) -> float:
    scenes, said = placeless(TRIED)
    shown = [draw(scene, SIDE, SIDE) for scene in scenes]
    hints = _hints(shown, kind).to(frozen.device).repeat(2, 1, 1, 1)

    def controlled(x: Tensor, timesteps: Tensor, context: Tensor, added_cond_kwargs: Any, return_dict: bool) -> Any:
        given = control.residuals(x, timesteps, context, added_cond_kwargs["text_embeds"], hints)
        more = {name: _scaled(value, weight) for name, value in given.items()}
        return frozen.unet(x, timesteps, context, added_cond_kwargs=added_cond_kwargs, return_dict=return_dict, **more)

    drawn = draw_latents(controlled, frozen.reader, said, SIDE, TRIED_STEPS, TOKENS)
    return overlap(shown, list(pixels_of(drawn)))


def _scaled(value: Any, weight: float) -> Any:
    return tuple(weight * each for each in value) if isinstance(value, tuple) else weight * value


def _kept_hints(run_dir: RunDir, scenes: list[Scene], kind: StructureKind) -> Tensor:
    """(n, 1, side, side) uint8 of the first scenes as `Drawn.of` draws them, kept in the run's folder."""
    path = run_dir.folder / "hints.pt"
    if not path.is_file():
        found = torch.empty(HINTED, 1, SIDE, SIDE, dtype=torch.uint8)
        for at, scene in enumerate(track(scenes[:HINTED], f"hints of {kind}", console=run_dir.console)):
            hint = STRUCTURES[kind](draw(scene, SIDE, SIDE, random.Random(at), smooth=1))
            found[at] = torch.from_numpy(hint[:, :, 0])
        torch.save(found, path)
    kept: Tensor = torch.load(path, weights_only=True)
    return kept


def _hints(pictures: list[Pixels], kind: StructureKind) -> Tensor:
    found = np.stack([STRUCTURES[kind](picture) for picture in pictures])
    return torch.from_numpy(found).permute(0, 3, 1, 2).float() / 255
