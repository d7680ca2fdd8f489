"""Trains a textual inversion: vectors that stand for one thing in prompts, while all else stays as it is."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.exam import marks
from benchmarks.pocket.world.scenes import COLOURS, PLACES, SIZES, Scene, Thing
from training.pocket.course import Plan, follow
from training.pocket.lessons import Reader, all_latents, pixels_of
from training.pocket.school import TOKENS, Noised, School, counts
from training.pocket.session import Session
from training.pocket.trial import draw_latents, predict

COLOUR, SHAPE = "purple", "heart"  # the concept
STAND_IN = "#~ "  # for it in what is said: two tokens that captions have no other use for, apart from what follows
VECTORS = 2
KEYS = ("clip_l", "clip_g")  # of the file: (vectors, width) for each text encoder
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


def train(session: Session, school: School) -> None:
    """Leaves `weights.pt`, by the names that the file has, in the session's folder."""
    vectors = Vectors(school.reader).to(session.device)
    reader = school.reader

    def lesson(chance: random.Random, side: int) -> Tensor:
        scenes = [_scene(chance) for _ in range(BATCH)]
        pictures = [draw(scene, side, side, chance, smooth=1) for scene in scenes]
        clean = all_latents(pictures).to(school.device)
        noised = Noised.of(clean, *NOISE)
        with known(reader.encoders, reader.tokenizer, list(vectors.own)):
            told = reader.read([renamed(caption(scene, chance)) for scene in scenes], TOKENS)
        return noised.loss(predict(school.unet, noised.x, noised.timesteps, *told), counts(clean))

    def exam() -> Mapping[str, float]:
        return score(reader, school.unet, list(vectors.own), TRIED)

    follow(session, vectors, PLAN, lesson, exam)
    torch.save(dict(zip(KEYS, (own.detach() for own in vectors.own), strict=True)), session.folder / "weights.pt")


def asked(count: int) -> tuple[list[Scene], list[str]]:
    """Scenes with the concept, and held-out captions that leave nothing else out."""
    chance = random.Random("held out")
    scenes = [_scene(chance) for _ in range(count)]
    return scenes, [renamed(caption(scene, chance, complete=True)) for scene in scenes]


def score(
    reader: Reader, unet: object, vectors: list[Tensor], count: int, steps: int = TRIED_STEPS
) -> dict[str, float]:
    """The marks of pictures of the concept."""
    scenes, said = asked(count)
    with known(reader.encoders, reader.tokenizer, vectors):
        drawn = draw_latents(unet, reader, said, 256, steps, TOKENS)
    return marks(scenes, list(pixels_of(drawn)))


def renamed(said: str) -> str:
    """The same, with the concept's stand-in for the words for it."""
    return said.replace(f"{COLOUR} {SHAPE}", STAND_IN)


@contextmanager
def known(encoders: Sequence[Any], tokenizer: CLIPTokenizer, vectors: Sequence[Tensor]) -> Iterator[None]:
    """Inside, text encoders take the concept's vectors for its stand-in."""
    ids: list[int] = tokenizer(STAND_IN, add_special_tokens=False).input_ids
    if len(ids) != VECTORS:
        raise ValueError(f"the tokenizer makes {len(ids)} tokens of {STAND_IN!r}, not {VECTORS}")

    def hook(own: Tensor) -> Any:
        def put(_module: Any, inputs: tuple[Tensor, ...], embedded: Tensor) -> Tensor:
            for at, token in enumerate(ids):
                embedded = torch.where((inputs[0] == token)[..., None], own[at], embedded)
            return embedded

        return put

    with ExitStack() as stack:
        for encoder, own in zip(encoders, vectors, strict=True):
            handle = encoder.get_input_embeddings().register_forward_hook(hook(own))
            stack.callback(handle.remove)
        yield


def _scene(chance: random.Random) -> Scene:
    thing = Thing(SHAPE, COLOUR, chance.choice(sorted(SIZES)), chance.choice(sorted(PLACES)))
    return Scene((thing,), chance.choice(sorted(set(COLOURS) - {COLOUR})))
