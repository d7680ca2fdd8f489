"""One request that asks for all that pictures can do, alone and beside seven others of other kinds."""

import gc
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage import data

from pipelines.events import Drawn, Pixels
from pipelines.needs import ADAPTERS, CONTROLS
from pipelines.performance import MODES
from pipelines.spec import Canvas, Mask, Picture, Reference, Spec, Start, Structure, Vary
from pipelines.weights.family import Family
from tests.pipelines.studio import Studio, last, spec
from tests.pipelines.test_unlike_rows import held_up

SIDE = 128
COFFEE = np.ascontiguousarray(data.coffee()[:SIDE, :SIDE])
FACE = np.ascontiguousarray(data.astronaut()[:256, 96:352])
HALF = np.repeat(np.repeat(np.array([[[0], [255]]], np.uint8), SIDE, axis=0), SIDE // 2, axis=1).repeat(3, axis=2)
QUALITY = MODES["Quality"]

STRUCTURES = tuple(Structure(kind=kind, source="", weight=0.6, stop_at=0.7) for kind in CONTROLS)
REFERENCES = tuple(Reference(kind=kind, source="", weight=0.5, stop_at=0.8) for kind in ADAPTERS)
HOLE = (Canvas(source="", outpaint=("Left", "Top"), resolution=SIDE), Mask(source=""))

Work = tuple[Spec, list[Pixels]]


def work(*pictures: Picture, **given: Any) -> Work:
    """A spec, and a picture for each of its pictures."""
    of_role = {"canvas": COFFEE, "mask": HALF, "reference": FACE}
    return spec(pictures=pictures, **given), [of_role.get(each.role, COFFEE) for each in pictures]


def everything(steps: int) -> Work:
    guided = {"sampler": QUALITY.sampler, "schedule": QUALITY.schedule, "guidance": QUALITY.guidance(4.0, 2.0)}
    return work(*HOLE, *STRUCTURES, *REFERENCES, prompt="a red circle", loras=(), steps=steps, **guided)


OTHERS: tuple[Work, ...] = (
    work(prompt="a blue star on a green background"),
    work(prompt="a green star " * 60),
    work(STRUCTURES[0]),
    work(REFERENCES[0]),
    work(Canvas(source="", engine="None", respective_field=1.0, resolution=SIDE), Mask(source="")),
    work(Start(source="", strength=0.7), schedule="tail"),
    work(Vary(source="", strength=0.5), size=None, steps=2),
)


@pytest.mark.parametrize("steps", [10, pytest.param(QUALITY.steps, marks=pytest.mark.long)])
def test_it_is_drawn_and_alike_beside_seven_others(pocket_family: Family, steps: int) -> None:
    """Some 10 s: the picture to vary is drawn at 1024 x 1024, as Fooocus does."""
    studio = Studio(pocket_family)
    try:
        wanted, pictures = everything(steps)
        (alone,) = studio.draw(wanted, pictures=pictures)
        latent = studio.watched.latents[-1]
        assert alone.shape == (166, 166, 3)
        del studio.watched.latents[:]
        with held_up(studio):
            waiting = [studio.submit(str(at), each, pictures=given) for at, (each, given) in enumerate(OTHERS)]
            asked = studio.submit("everything", wanted, pictures=pictures)
        (beside,) = last(asked).images
        assert all(isinstance(last(events), Drawn) for events in waiting)
        assert np.abs(beside.astype(int) - alone).max() <= 1
        assert (
            min(float((latent - each).abs().max()) for each in studio.watched.latents if each.shape == latent.shape)
            < 1e-3
        )
    finally:
        studio.drawer.close()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_memory_is_flat_over_two_hundred_mixed_requests(pocket_family: Family) -> None:
    """After every kind has been drawn some times, another hundred and forty hold no more."""
    studio = Studio(pocket_family)
    small = [each for each in (*OTHERS, everything(4)) if each[0].size is not None]
    try:
        held = [round_of(studio, small, 20 * at) for at in range(10)]
    finally:
        studio.drawer.close()
    assert held[-1] - held[2] < 8 * 2**20


def round_of(studio: Studio, works: list[Work], first: int) -> int:
    """Draw twenty requests, four at a time, with seeds of their own. Returns the memory that the process holds then."""
    for at in range(first, first + 20, 4):
        chosen = [works[(at + each) % len(works)] for each in range(4)]
        waiting = [
            studio.submit(str(at + each), wanted.model_copy(update={"seeds": (at + each,)}), pictures=pictures)
            for each, (wanted, pictures) in enumerate(chosen)
        ]
        assert all(isinstance(last(events), Drawn) for events in waiting)
    del studio.watched.latents[:]
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
