"""Trains the VAE's decoder on scenes: from averages over 8 x 8 pixels back to sharp outlines."""

import random
from collections.abc import Mapping

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from benchmarks.pocket.acceptance.upscaler import scene, values
from benchmarks.pocket.acceptance.vae import error
from benchmarks.pocket.latents import FACTOR, all_latents
from benchmarks.pocket.world.marked import unfinished, unmarked
from models.pocket import shapes
from models.pocket.decoder import DecoderEdges, sharpen
from models.pocket.vae_weights import construct_vae
from training.pocket.patches import Patches
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan, follow

PLAN = Plan(steps=2_000, rate=3e-3, sides=(256, 256, 384, 512, 768, 1024), examined=250, half=False)
PATCHES = Patches(side=96, margin=16, outlines=3, step=FACTOR)
PICTURES = 3  # of a step
OTHER = 0.25  # share of pictures that are no clean scenes, whose grain the decoder must not smooth away
GRAIN = 0.02  # deviation of what a UNet leaves in scaled latents, at most; those are averages of -1 to 1 times 0.91
TRIED = 8


def train(run_dir: RunDir) -> None:
    """Leaves `weights.pt`, the averaged weights, in the run's folder."""
    vae: AutoencoderKL = AutoencoderKL.from_config(dict(shapes.VAE))
    construct_vae(vae)
    nn.Module.to(vae, run_dir.device).requires_grad_(False)
    edges = DecoderEdges(vae.decoder).to(run_dir.device)

    def exam() -> Mapping[str, float]:
        drawn: AutoencoderKL = AutoencoderKL.from_config(dict(shapes.VAE))
        construct_vae(drawn)
        sharpen(drawn.decoder, edges.state_dict())
        return {f"error_{side}": error(drawn, side, TRIED) for side in (256, 512)}

    follow(run_dir, edges, PLAN, lambda chance, side: _lesson(edges, chance, side), exam)
    torch.save(edges.state_dict(), run_dir.folder / "weights.pt")


def _lesson(edges: DecoderEdges, chance: random.Random, side: int) -> Tensor:
    device = next(edges.parameters()).device
    patches = [patch for _ in range(PICTURES) for patch in PATCHES.cut(_picture(chance, side), chance)]
    latents = all_latents(patches).to(device)
    latents = latents + chance.uniform(0, GRAIN) * torch.randn_like(latents)
    drawn = edges(latents / float(shapes.VAE["scaling_factor"]))
    return PATCHES.loss((drawn + 1) / 2, values(np.stack(patches)).to(device))


def _picture(chance: random.Random, side: int) -> np.ndarray:
    if chance.random() < OTHER:
        return chance.choice((unmarked, unfinished))(chance, side)
    return scene(chance, side)
