"""Trains a textual inversion: vectors that stand for one thing in prompts, while all else stays as it is."""

import random
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.pocket.acceptance.concept import KEYS, VECTORS, known, renamed, scene, score
from benchmarks.pocket.latents import all_latents
from benchmarks.pocket.reader import TOKENS, Reader
from benchmarks.pocket.sampling import predict
from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.drawing import draw
from training.pocket.frozen_models import FrozenModels, Noised, counts
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan, follow

BATCH = 12
PLAN = Plan(steps=200, rate=1e-2)
NOISE = (0.5, 14.0)
TRIED, TRIED_STEPS = 16, 12


class Vectors(nn.Module):
    """Of each text encoder (vectors, width). They begin as words in general."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.own = nn.ParameterList()
        for encoder in reader.encoders:
            embedding: Any = encoder.get_input_embeddings()
            words: Tensor = embedding.weight.detach()
            wander = words.std() * torch.randn(VECTORS, words.shape[1], generator=generator).to(words.device)
            self.own.append(nn.Parameter(words.mean(dim=0) + 0.1 * wander))


def train(run_dir: RunDir, frozen: FrozenModels) -> None:
    """Leaves `weights.pt`, by the names that the file has, in the run's folder."""
    vectors = Vectors(frozen.reader).to(run_dir.device)
    reader = frozen.reader

    def lesson(chance: random.Random, side: int) -> Tensor:
        scenes = [scene(chance) for _ in range(BATCH)]
        pictures = [draw(each, side, side, chance, smooth=1) for each in scenes]
        clean = all_latents(pictures).to(frozen.device)
        noised = Noised.of(clean, *NOISE)
        with known(reader.encoders, reader.tokenizer, list(vectors.own)):
            told = reader.read([renamed(caption(each, chance)) for each in scenes], TOKENS)
        return noised.loss(predict(frozen.unet, noised.x, noised.timesteps, *told), counts(clean))

    def exam() -> Mapping[str, float]:
        return score(reader, frozen.unet, list(vectors.own), TRIED, TRIED_STEPS)

    follow(run_dir, vectors, PLAN, lesson, exam)
    torch.save(dict(zip(KEYS, (own.detach() for own in vectors.own), strict=True)), run_dir.folder / "weights.pt")
