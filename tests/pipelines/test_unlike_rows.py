"""Jobs that differ in anything but latent size and variant share calls, and draw what they draw alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from skimage import data
from torch import Tensor

from pipelines.events import Drawn
from pipelines.spec import Canvas, Guidance, Mask, Reference, SizeEmphasis, Spec, Start, Structure
from pipelines.weights.family import Family
from tests.pipelines.studio import Studio, held_up, last, spec

PHOTO = data.astronaut()[:128, 100:228]
LEFT = np.where(np.arange(128)[None, :, None] < 64, np.uint8(255), np.zeros((128, 128, 3), np.uint8))
FULL = Guidance(scale=9.0, mimicked=7.0, sharpness=20.0, sizes=SizeEmphasis(positive=1.5, negative=0.8, end=0.3))


def edges(weight: float, stop_at: float) -> Structure:
    return Structure(kind="PyraCanny", source="", weight=weight, stop_at=stop_at)


MIXED = (
    Reference(kind="ImagePrompt", source="", weight=0.4),
    edges(0.5, 1.0),
    Reference(kind="FaceSwap", source="", weight=0.3),
    Structure(kind="CPDS", source="", weight=0.4),
    Reference(kind="ImagePrompt", source="", weight=0.3, stop_at=0.7),
    Reference(kind="FaceSwap", source="", weight=0.2),
)

# what may differ within a call
UNLIKE: dict[str, tuple[Spec, dict[str, Any]]] = {
    "plain": (spec(), {}),
    "another sampler, seed and number of steps": (
        spec(sampler="euler", schedule="sgm_uniform", steps=3, seeds=(8,)),
        {},
    ),
    "guided": (spec(guidance=Guidance(scale=3.0), negative_prompt="red"), {}),
    "guided with everything": (spec(sampler="dpmpp_2m_sde", schedule="karras", guidance=FULL), {}),
    # gently: with the trained LCM LoRA a run at scale 6 ends 1.1e-3 apart, one at 3 1.5e-5
    "rescaled": (spec(guidance=Guidance(scale=3.0, rescale=0.7)), {}),
    "a long prompt": (spec(prompt="a green star " * 60), {}),
    "a control image": (spec(pictures=(edges(1.0, 1.0),)), {"pictures": [PHOTO]}),
    "two that stop early": (spec(pictures=(edges(0.5, 0.5), edges(0.8, 0.4))), {"pictures": [PHOTO, PHOTO[::-1]]}),
    "four looks, edges and contrasts": (
        spec(pictures=MIXED, guidance=Guidance(scale=2.0)),
        {"pictures": [PHOTO, PHOTO, PHOTO[::-1], PHOTO, PHOTO[:, ::-1], PHOTO]},
    ),
    "a face that stops early": (
        spec(pictures=(Reference(kind="FaceSwap", source="", weight=0.8, stop_at=0.4),)),
        {"pictures": [PHOTO]},
    ),
    "from a picture": (spec(schedule="tail", pictures=(Start(source="", strength=0.7),)), {"pictures": [PHOTO]}),
    "the half of a picture": (
        spec(pictures=(Canvas(source="", engine="None", respective_field=1.0, resolution=128), Mask(source=""))),
        {"pictures": [PHOTO, LEFT]},
    ),
    "two evaluations a step": (spec(sampler="heun", schedule="karras"), {}),
}


@pytest.fixture(scope="module")
def studio(pocket_family: Family) -> Iterator[Studio]:
    studio = Studio(pocket_family)
    yield studio
    studio.drawer.close()


@dataclass(frozen=True)
class Alone:
    """What a job does by itself: its latent, and how many calls of the UNet it takes."""

    latent: Tensor
    calls: int


@pytest.fixture(scope="module")
def alone(studio: Studio) -> dict[str, Alone]:
    found = {}
    for name, (each, pictures) in UNLIKE.items():
        before = studio.engine.stats().unet_calls
        studio.draw(each, **pictures)
        found[name] = Alone(studio.watched.latents[-1], studio.engine.stats().unet_calls - before)
    return found


@pytest.mark.parametrize("pair", list(combinations(UNLIKE, 2)), ids=" + ".join)
def test_every_pair_shares_its_calls_and_changes_no_row(
    studio: Studio, alone: dict[str, Alone], pair: tuple[str, str]
) -> None:
    before = studio.engine.stats().unet_calls
    del studio.watched.latents[:]
    with held_up(studio):
        waiting = [studio.submit(name, UNLIKE[name][0], **UNLIKE[name][1]) for name in pair]
    for events in waiting:
        assert isinstance(last(events), Drawn)
    calls = studio.engine.stats().unet_calls - before
    one, other = (alone[name].calls for name in pair)
    assert calls <= max(one, other) + 2  # one of them may have had to wait for its prompts or its hints
    assert calls < one + other
    for name in pair:
        nearest = min(float((alone[name].latent - latent).abs().max()) for latent in studio.watched.latents)
        assert nearest < 1e-3


def test_the_jobs_differ(alone: dict[str, Alone]) -> None:
    for one, other in combinations(alone.values(), 2):
        assert (one.latent - other.latent).abs().max() > 1e-2
