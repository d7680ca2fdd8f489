"""One request that asks for all that pictures and words can do, alone and beside seven others of other kinds."""

import gc
import resource
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from benchmarks.lora_files import write_lora
from deployments.memory import ENVIRONMENT, return_large_blocks
from pipelines.catalogue import Catalogue
from pipelines.events import Drawn, Pixels
from pipelines.inputs import Inputs
from pipelines.needs import ADAPTERS, CONTROLS
from pipelines.performance import MODES
from pipelines.preparing import find_embeddings, find_loras, prepare
from pipelines.prompts.assembly import expanded
from pipelines.spec import (
    Canvas,
    Embedding,
    Lora,
    Mask,
    Picture,
    Reference,
    Refiner,
    Spec,
    Start,
    Structure,
    Vary,
)
from pipelines.weights.family import Family, load_family
from tests.pipelines.studio import Studio, held_up, last, spec
from tests.pipelines.weights.embeddings import LAYOUTS, vectors_of, write

SIDE = 128
COFFEE = np.ascontiguousarray(data.coffee()[:SIDE, :SIDE])
FACE = np.ascontiguousarray(data.astronaut()[:256, 96:352])
HALF = np.repeat(np.repeat(np.array([[[0], [255]]], np.uint8), SIDE, axis=0), SIDE // 2, axis=1).repeat(3, axis=2)
QUALITY = MODES["Quality"]
STYLES = ("Fooocus Sharp", "SAI Anime")

STRUCTURES = tuple(Structure(kind=kind, source="", weight=0.6, stop_at=0.7) for kind in CONTROLS)
REFERENCES = tuple(Reference(kind=kind, source="", weight=0.5, stop_at=0.8) for kind in ADAPTERS)
HOLE = (Canvas(source="", outpaint=("Left", "Top"), resolution=SIDE), Mask(source=""))

Work = tuple[Spec, list[Pixels]]


def work(*pictures: Picture, **given: Any) -> Work:
    """A spec, and a picture for each of its pictures."""
    of_role = {"canvas": COFFEE, "mask": HALF, "reference": FACE}
    return spec(pictures=pictures, **given), [of_role.get(each.role, COFFEE) for each in pictures]


def everything(steps: int) -> Work:
    """Two LoRAs and a tag, four image prompts of four types, inpaint with outpaint, styles, an embedding, a refiner."""
    guided = {"sampler": QUALITY.sampler, "schedule": QUALITY.schedule, "guidance": QUALITY.guidance(4.0, 2.0)}
    return work(
        *HOLE,
        *STRUCTURES,
        *REFERENCES,
        prompt="a [[red, blue]] circle, <lora:c:0.3>\non a (green:1.2) background",
        negative_prompt="a <s0>\nblur",
        styles=(*STYLES, "Random Style"),
        embeddings=(Embedding(source="star"),),
        loras=(Lora(source="a", scale=0.4), Lora(source="b", scale=-0.3)),
        refiner=Refiner(switch=0.8),
        steps=steps,
        **guided,
    )


OTHERS: tuple[Work, ...] = (
    work(prompt="a blue star on a green background"),
    work(prompt="a green star " * 60),
    work(STRUCTURES[0]),
    work(REFERENCES[0]),
    work(Canvas(source="", engine="None", respective_field=1.0, resolution=SIDE), Mask(source="")),
    work(Start(source="", strength=0.7), schedule="tail"),
    work(Vary(source="", strength=0.5), size=None, steps=2),
)


@pytest.fixture(scope="module")
def files(pocket_family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three more LoRAs, of which the first changes text encoders too, and an embedding."""
    folder = tmp_path_factory.mktemp("files")
    for at, (name, of_text) in enumerate((("a", ("v_proj", "fc1")), ("b", ()), ("c", ()))):
        write_lora(folder / f"{name}.safetensors", pocket_family, 2 + at, at, ("to_q", "conv1"), of_text)
    write(folder / "star.safetensors", LAYOUTS["kohya"](*vectors_of(pocket_family, "blue star")))
    return folder


@pytest.fixture(scope="module")
def family(pocket_family: Family, files: Path) -> Family:
    return with_files(pocket_family, files)


def with_files(family: Family, files: Path) -> Family:
    return replace(family, catalogue=Catalogue.open(family.catalogue.root, files, files))


def inputs(family: Family, given: Work) -> Inputs:
    """With words of the expansion where there are styles."""
    wanted, pictures = given
    found = prepare(
        wanted,
        pictures,
        find_loras(wanted, family.catalogue),
        embeddings=find_embeddings(wanted, family.catalogue),
        catalogue=family.catalogue,
    )
    words = [f"{each.main}, bright" for each in found.texts] if wanted.styles else []
    return replace(found, texts=expanded(found.texts, words))


@pytest.mark.parametrize(
    "branch_bytes", [pytest.param(None, marks=pytest.mark.long, id="merged"), pytest.param(2**28, id="carried")]
)
@pytest.mark.parametrize("steps", [6, pytest.param(QUALITY.steps, marks=pytest.mark.long)])
def test_it_is_drawn_and_alike_beside_seven_others(family: Family, steps: int, branch_bytes: int | None) -> None:
    """Some 10 s each: the picture to vary is drawn at 1024 x 1024, as Fooocus does."""
    studio = Studio(family, branch_bytes=branch_bytes)
    try:
        asked = everything(steps)
        (alone,) = last(studio.listen("alone", asked[0], inputs(family, asked))).images
        latent = studio.watched.latents[-1]
        assert alone.shape == (166, 166, 3)
        del studio.watched.latents[:]
        with held_up(studio):
            waiting = [studio.listen(str(at), each[0], inputs(family, each)) for at, each in enumerate(OTHERS)]
            events = studio.listen("everything", asked[0], inputs(family, asked))
        (beside,) = last(events).images
        assert all(isinstance(last(each), Drawn) for each in waiting)
        assert np.abs(beside.astype(int) - alone).max() <= 1
        assert (
            min(float((latent - each).abs().max()) for each in studio.watched.latents if each.shape == latent.shape)
            < 1e-3
        )
    finally:
        studio.drawer.close()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_memory_is_flat_over_two_hundred_mixed_requests(
    pocket_family_folder: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 120, in which every kind is drawn some times and beside others, two hundred more hold no more.

    In a process of its own, set up as a Diffuser's: what an allocator keeps depends on all that was done before.
    """
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        held = process.submit(rounds, pocket_family_folder, files).result()
    assert held[-1] - held[5] < 8 * 2**20


def rounds(folder: Path, files: Path) -> list[int]:
    """Memory that this process holds after each of sixteen rounds. folder: of the family. files: of its LoRAs.

    Every request of a kind says the same: other words are remembered, 64 times, and `test_text.py` holds that bound.
    """
    return_large_blocks()
    torch.set_num_threads(1)
    family = load_family(folder, torch.device("cpu"), torch.float32)
    studio = Studio(with_files(family, files), branch_bytes=2**28)
    every, pictures = everything(4)
    small = [each for each in OTHERS if each[0].size is not None]
    small += [(every.model_copy(update={"styles": STYLES}), pictures)]
    try:
        return [round_of(studio, small, 20 * at) for at in range(16)]
    finally:
        studio.drawer.close()


def round_of(studio: Studio, works: list[Work], first: int) -> int:
    """Draw twenty requests, four at a time, with seeds of their own. Returns the memory that the process holds then."""
    for at in range(first, first + 20, 4):
        chosen = [works[(at + each) % len(works)] for each in range(4)]
        waiting = [
            studio.listen(str(at + each), seeded[0], inputs(studio.family, seeded))
            for each, (wanted, pictures) in enumerate(chosen)
            for seeded in [(wanted.model_copy(update={"seeds": (at + each,)}), pictures)]
        ]
        assert all(isinstance(last(events), Drawn) for events in waiting)
    del studio.watched.latents[:]
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
