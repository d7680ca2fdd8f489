"""Gate 10, the textual inversion: its token draws its concept, and vectors of nothing do not."""

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTokenizer

from benchmarks.pocket.acceptance.metric import Metric
from benchmarks.pocket.acceptance.prompts import WANTED
from benchmarks.pocket.latents import pixels_of
from benchmarks.pocket.reader import TOKENS, Reader
from benchmarks.pocket.sampling import draw_latents
from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.exam import accuracy
from benchmarks.pocket.world.scenes import COLOURS, PLACES, SIZES, Scene, Thing
from models.pocket import names
from pipelines.weights.family import Family

COLOUR, SHAPE = "purple", "heart"  # the concept
STAND_IN = "#~ "  # for it in what is said: two tokens that captions have no other use for, apart from what follows
VECTORS = 2
KEYS = ("clip_l", "clip_g")  # of the file: (vectors, width) for each text encoder
BY_CHANCE = 0.3


def draws_its_concept(family: Family, count: int, steps: int = 30) -> list[Metric]:
    reader = Reader(family.tokenizers[0], family.text_encoders)
    stored = load_file(family.catalogue.root / "embeddings" / names.CONCEPT)
    vectors = [stored[key].float() for key in KEYS]
    found = score(reader, family.unet, vectors, count, steps)
    without = score(reader, family.unet, [torch.zeros_like(own) for own in vectors], count, steps)
    drawn = [Metric(f"concept: {name}", found[name], least) for name, least in WANTED.items()]
    return [*drawn, Metric("vectors of nothing: colour", without["colour"], BY_CHANCE, below=True)]


def asked(count: int) -> tuple[list[Scene], list[str]]:
    """Scenes with the concept, and held-out captions that leave nothing else out."""
    chance = random.Random("held out")
    scenes = [scene(chance) for _ in range(count)]
    return scenes, [renamed(caption(scene, chance, complete=True)) for scene in scenes]


def score(reader: Reader, unet: object, vectors: list[Tensor], count: int, steps: int) -> dict[str, float]:
    """The accuracy of pictures of the concept."""
    scenes, said = asked(count)
    with known(reader.encoders, reader.tokenizer, vectors):
        drawn = draw_latents(unet, reader, said, 256, steps, TOKENS)
    return accuracy(scenes, list(pixels_of(drawn)))


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


def scene(chance: random.Random) -> Scene:
    """With the concept."""
    thing = Thing(SHAPE, COLOUR, chance.choice(sorted(SIZES)), chance.choice(sorted(PLACES)))
    return Scene((thing,), chance.choice(sorted(set(COLOURS) - {COLOUR})))
