"""Drawing on a device that does not hold the family: the same pictures, in the memory of one model at a time."""

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data
from torch import nn

from pipelines import drawing
from pipelines.drawing import Drawer
from pipelines.events import Drawn, Pixels
from pipelines.memory.plan import MemoryPlan
from pipelines.memory.residency import OnDemand
from pipelines.needs import ADAPTERS
from pipelines.preparing import prepare
from pipelines.settings import DrawingSettings
from pipelines.spec import Canvas, Guidance, Lora, Mask, Reference, Refiner, Size, Spec, Start, Structure, Upscale
from pipelines.weights.family import Family, load_family
from pipelines.weights.variant_spec import LoraRef, VariantSpec
from pipelines.weights.variants import VariantStore
from tests.pipelines.studio import LCM, Studio, last, spec

CPU = torch.device("cpu")
STYLE = Lora(source="pocket_outlines.safetensors", scale=0.8)
SMALL = Size(width=128, height=128)
HALF = np.repeat(np.repeat(np.array([[[0], [255]]], np.uint8), 128, axis=0), 64, axis=1).repeat(3, axis=2)
WORKS: dict[str, tuple[Spec, list[Pixels]]] = {
    "text": (spec(size=SMALL, steps=2, loras=(), guidance=Guidance(scale=3.0)), []),
    "loras": (spec(size=SMALL, steps=2, loras=(LCM[0].model_copy(update={"performance": True}), STYLE)), []),
    "canny": (
        spec(size=SMALL, steps=2, pictures=(Structure(kind="PyraCanny", source="", weight=1.0, stop_at=1.0),)),
        [data.astronaut()],
    ),
    "cpds": (
        spec(size=SMALL, steps=2, pictures=(Structure(kind="CPDS", source="", weight=1.0, stop_at=1.0),)),
        [data.coffee()],
    ),
    "looks": (
        spec(
            size=SMALL,
            guidance=Guidance(scale=2.0),
            pictures=tuple(Reference(kind=kind, source="", weight=0.5) for kind in ADAPTERS),
        ),
        [data.astronaut(), data.coffee()],
    ),
    "hole": (
        spec(
            steps=5,
            guidance=Guidance(scale=2.0),
            pictures=(Canvas(source="", respective_field=1.0, resolution=128), Mask(source="")),
        ),
        [data.coffee()[:128, :128], HALF],
    ),
    "refined": (spec(size=SMALL, guidance=Guidance(scale=2.0), refiner=Refiner(switch=0.5)), []),
    "upscale": (
        spec(size=None, steps=2, pictures=(Upscale(source="", factor=2),)),
        [np.ascontiguousarray(data.coffee()[:64, :64])],
    ),
    "start": (spec(size=SMALL, schedule="tail", pictures=(Start(source="", strength=0.6),)), [data.coffee()]),
}


def size_of(module: nn.Module) -> int:
    return sum(each.nbytes for each in (*module.parameters(), *module.buffers()))


def plan_of(parts: int) -> MemoryPlan:
    return MemoryPlan(memory=parts, resident=False, parts=parts, working=0, merged=0, row_pixel=1)


def within(folder: Path, parts: int) -> Family:
    return load_family(folder, CPU, torch.float32, plan_of(parts))


class Watch:
    """Sees every layer of a family's models that runs, and whether it ran on the device."""

    def __init__(self, residency: OnDemand, budget_bytes: int) -> None:
        self.residency, self.budget_bytes = residency, budget_bytes
        self.ran, self.away, self.largest = 0, list[str](), 0

    def __call__(self, module: nn.Module, args: Any) -> None:
        held = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if not held:
            return
        self.ran += 1
        self.away += [type(module).__name__ for each in held if self.residency.home(each).data_ptr() == each.data_ptr()]
        if self.ran % 50 == 0:
            self.largest = max(self.largest, self.residency.held_bytes)


@pytest.fixture(scope="module")
def resident(pocket_family: Family) -> Iterator[Studio]:
    studio = Studio(pocket_family)
    yield studio
    studio.drawer.close()


@pytest.fixture(scope="module")
def one_at_a_time(pocket_family_folder: Path, pocket_family: Family) -> Iterator[Studio]:
    """With room for the largest model alone."""
    studio = Studio(within(pocket_family_folder, size_of(pocket_family.unet)))
    yield studio
    studio.drawer.close()


@pytest.fixture
def watch(one_at_a_time: Studio) -> Iterator[Watch]:
    residency = one_at_a_time.family.residency
    assert isinstance(residency, OnDemand)
    watch = Watch(residency, size_of(one_at_a_time.family.unet))
    hook = nn.modules.module.register_module_forward_pre_hook(watch)
    yield watch
    hook.remove()
    assert watch.ran > 100
    assert watch.away == []
    assert 0 < watch.largest <= watch.budget_bytes


@pytest.mark.parametrize("name", WORKS)
def test_pictures_are_those_of_a_family_that_is_all_there(
    name: str, resident: Studio, one_at_a_time: Studio, request: pytest.FixtureRequest
) -> None:
    wanted, pictures = WORKS[name]
    there = resident.draw(wanted, pictures=pictures)
    request.getfixturevalue("watch")
    family = one_at_a_time.family
    family.residency.bring(family.unet)  # so that nothing else is there
    assert np.array_equal(one_at_a_time.draw(wanted, pictures=pictures), there)
    assert torch.equal(one_at_a_time.watched.latents[-1], resident.watched.latents[-1])


def test_so_are_those_of_unlike_jobs_at_once(one_at_a_time: Studio, watch: Watch) -> None:
    works = [WORKS["canny"], WORKS["text"]]
    alone = [one_at_a_time.draw(wanted, pictures=pictures) for wanted, pictures in works]
    before = one_at_a_time.drawer.stats()
    waiting = [one_at_a_time.submit(str(at), each, pictures=pictures) for at, (each, pictures) in enumerate(works)]
    for picture, events in zip(alone, waiting, strict=True):
        assert np.abs(last(events).images.astype(int) - picture.astype(int)).max() <= 1
    after = one_at_a_time.drawer.stats()
    assert after.parts_brought > before.parts_brought  # what an operator sees of it
    assert after.bytes_brought > before.bytes_brought


def test_weights_are_merged_at_home_while_models_come_and_go(resident: Studio, one_at_a_time: Studio) -> None:
    """Each scale is another base, which is built on a thread of its own while the others are drawn."""
    works = [spec(size=SMALL, steps=2, loras=(Lora(source=LCM[0].source, scale=scale),)) for scale in (0.5, 0.6, 0.7)]
    there = [resident.draw(each) for each in works]
    waiting = [one_at_a_time.submit(str(at), each) for at, each in enumerate(works)]
    for picture, events in zip(there, waiting, strict=True):
        assert np.array_equal(last(events).images, picture)


def test_weights_are_merged_from_their_home_whatever_is_on_the_device(pocket_family_folder: Path) -> None:
    family = within(pocket_family_folder, 2**40)
    models = (family.unet, *family.text_encoders)
    for module in models:
        family.residency.bring(module)
        for parameter in module.parameters():
            parameter.data.fill_(torch.nan)
    lora = LoraRef(family.catalogue.lora(LCM[0].source) or Path(), 1.0)
    store = VariantStore(family, 2**30)
    unet = store.get(VariantSpec(adapters=(lora,))).unet
    network = store.get(VariantSpec(controls=("canny",))).controls["canny"]
    shared = {id(parameter) for module in models for parameter in module.parameters()}
    for module in (unet, network):
        made = [parameter for parameter in module.parameters() if id(parameter) not in shared]
        assert len(made) > 50
        assert all(parameter.isfinite().all() for parameter in made)


def test_a_plan_that_holds_what_a_picture_needs_brings_each_model_once(pocket_family_folder: Path) -> None:
    parts = within(pocket_family_folder, 1)
    models = (parts.unet, parts.vae, *parts.text_encoders)
    studio = Studio(within(pocket_family_folder, sum(map(size_of, models))))
    wanted = spec(size=SMALL, steps=2, loras=())
    for seed in (1, 2):
        studio.draw(wanted.model_copy(update={"seeds": (seed,), "prompt": f"a circle {seed}"}))
    stats = studio.drawer.stats()
    studio.drawer.close()
    assert stats.parts_brought == len(models)
    assert stats.bytes_brought == sum(map(size_of, models))


def test_a_drawer_measures_and_draws_by_its_plan(
    pocket_family_folder: Path, pocket_family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "_plan", lambda _: plan_of(size_of(pocket_family.unet)))
    watched = (Size(width=64, height=64),)
    drawer = Drawer.open(DrawingSettings(family=pocket_family_folder, rows=2, profile_sizes=watched))
    try:
        assert drawer.stats().parts_brought == 1  # the UNet, to be measured
        given = spec(loras=(), size=watched[0], steps=1)
        events: queue.Queue[Any] = queue.Queue()
        drawer.submit("one", given, prepare(given, (), ()), events.put)
        assert isinstance(last(events), Drawn)
        assert drawer.stats().parts_brought == 5  # and two text encoders, the UNet again and the VAE
    finally:
        drawer.close()


def test_compiling_is_refused_where_weights_come_and_go(
    pocket_family_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread runs a UNet whose weights the engine's may take off meanwhile."""
    monkeypatch.setattr(drawing, "_plan", lambda _: plan_of(1))
    with pytest.raises(ValueError, match="set compile to off, or memory_gb to more"):
        Drawer.open(DrawingSettings(family=pocket_family_folder, compile="blocks"))


def test_memory_gb_alone_makes_it_so(pocket_family_folder: Path) -> None:
    """With what a call needs of the pocket family set aside, this leaves less than its models have."""
    drawer = Drawer.open(DrawingSettings(family=pocket_family_folder, rows=8, memory_gb=1.4))
    try:
        given = spec(loras=(), size=Size(width=64, height=64), steps=1)
        events: queue.Queue[Any] = queue.Queue()
        drawer.submit("one", given, prepare(given, (), ()), events.put)
        assert isinstance(last(events), Drawn)
        assert drawer.stats().parts_brought >= 4
    finally:
        drawer.close()
