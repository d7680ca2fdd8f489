"""LoRAs that rows carry: unlike sets share calls, and the pictures are those of merged weights."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from queue import Queue
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from benchmarks.lora_files import write_lora
from pipelines.drawing import Drawer
from pipelines.events import Drawn, Note, Pixels
from pipelines.inputs import FoundLora
from pipelines.memory.residency import OnDemand
from pipelines.preparing import prepare
from pipelines.settings import DrawingSettings
from pipelines.spec import Canvas, Guidance, Lora, Mask, Reference, Size, Spec, Structure
from pipelines.unet.gathering import UNetCall
from pipelines.unet.runner import UNetRunner
from pipelines.weights.branching import SHARED
from pipelines.weights.family import Family, load_family
from pipelines.weights.variant_spec import LoraRef, VariantSpec
from tests.pipelines.studio import LCM, Studio, held_up, last, spec
from tests.pipelines.test_drawing_within_memory import plan_of

Loras = Sequence[tuple[Path, float]]

SMALL = Size(width=64, height=64)
PLENTY, ROOM = 2**28, 2**22
LATENT = 1e-3
HALF = np.repeat(np.repeat(np.array([[[0], [255]]], np.uint8), 128, axis=0), 64, axis=1).repeat(3, axis=2)
OF_UNET = "attn2.to_q attn2.to_k conv1 ff.net.0.proj time_embedding.linear_1 conv_in proj_in to_v".split()
OF_TEXT = ("v_proj", "fc1")
FAST = LCM[0].model_copy(update={"performance": True})
LOOKS: Mapping[str, tuple[Spec, list[Pixels]]] = MappingProxyType(
    {
        "guided": (spec(size=SMALL, steps=2, guidance=Guidance(scale=3.0, sharpness=2.0)), []),
        "canny": (
            spec(size=SMALL, steps=2, pictures=(Structure(kind="PyraCanny", source="", weight=1.0, stop_at=1.0),)),
            [data.astronaut()],
        ),
        "image prompt": (
            spec(size=SMALL, steps=2, pictures=(Reference(kind="ImagePrompt", source="", weight=0.5),)),
            [data.coffee()],
        ),
        "hole": (
            spec(steps=4, pictures=(Canvas(source="", respective_field=1.0, resolution=128), Mask(source=""))),
            [data.coffee()[:128, :128], HALF],
        ),
    }
)


@pytest.fixture(scope="module")
def merging(pocket_family: Family) -> Iterator[Studio]:
    studio = Studio(pocket_family)
    yield studio
    studio.drawer.close()


@pytest.fixture
def carrying(pocket_family: Family) -> Iterator[Studio]:
    studio = Studio(pocket_family, branch_bytes=PLENTY)
    yield studio
    studio.drawer.close()


@pytest.fixture(scope="module")
def files(pocket_family: Family, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of ranks 1 to 8 and several alphas, each of other layers; the first two change text encoders too."""
    folder = tmp_path_factory.mktemp("loras")
    return [
        write_lora(
            folder / f"{at}.safetensors",
            pocket_family,
            at + 1,
            at,
            OF_UNET[at // 2 : at // 2 + 4],
            OF_TEXT if at < 2 else (),
            alpha=1.0 if at % 3 == 0 else None,
        )
        for at in range(8)
    ]


def send(studio: Studio, name: str, given: Spec, loras: Loras, pictures: Sequence[Pixels] = ()) -> "Queue[Any]":
    fast = studio.family.catalogue.lora(FAST.source)
    assert fast is not None
    found = [FoundLora(Lora(source=path.name, scale=scale), path) for path, scale in loras]
    return studio.listen(name, given, prepare(given, pictures, [FoundLora(FAST, fast), *found]))


def draw(studio: Studio, given: Spec, loras: Loras, pictures: Sequence[Pixels] = ()) -> torch.Tensor:
    """The latent of a picture."""
    assert isinstance(last(send(studio, "one", given, loras, pictures)), Drawn)
    return studio.watched.latents[-1]


def far_apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.parametrize("look", LOOKS)
def test_pictures_are_those_of_merged_weights(look: str, merging: Studio, carrying: Studio, files: list[Path]) -> None:
    """The file named twice counts twice, and one with a scale of 0 not at all."""
    given, pictures = LOOKS[look]
    loras = [(files[0], 0.4), (files[5], -0.6), (files[0], 0.3), (files[7], 0.0)]
    wanted = draw(merging, given, loras, pictures)
    assert far_apart(draw(carrying, given, loras, pictures), wanted) < LATENT
    assert far_apart(draw(carrying, given, [], pictures), wanted) > 50 * LATENT
    assert len(carrying.drawer.variants()) == 1 + (look == "hole")


def test_eight_requests_of_eight_sets_make_one_call_a_step(
    merging: Studio, carrying: Studio, files: list[Path]
) -> None:
    given = spec(size=SMALL, steps=3, prompt="a green square")
    sets: list[Loras] = [[(path, 0.2 + at / 10), (files[at - 1], -0.3)] for at, path in enumerate(files)]
    wanted = [draw(merging, given, each) for each in sets]
    for each in sets:  # whatever happens once only
        draw(carrying, given.model_copy(update={"steps": 1}), each)
    before = carrying.drawer.stats()
    with held_up(carrying):
        waiting = [send(carrying, str(at), given, each) for at, each in enumerate(sets)]
        while carrying.engine._inbox.qsize() < len(sets):  # until the last is prepared
            time.sleep(0.01)
    for events in waiting:
        assert isinstance(last(events), Drawn)
    after = carrying.drawer.stats()
    assert (after.unet_calls - before.unet_calls, after.unet_rows - before.unet_rows) == (3, 24)
    latents = carrying.watched.latents[-8:]  # in the order in which they were prepared
    nearest = [min(range(8), key=lambda at: far_apart(latents[at], each)) for each in wanted]
    assert sorted(nearest) == [*range(8)]
    assert max(far_apart(latents[at], each) for at, each in zip(nearest, wanted, strict=True)) < LATENT
    assert len(carrying.drawer.variants()) == 1


def test_calls_of_requests_without_loras_carry_none(
    carrying: Studio, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[UNetCall] = []
    run = UNetRunner.run

    def watched(runner: UNetRunner, call: UNetCall) -> torch.Tensor:
        calls.append(call)
        return run(runner, call)

    monkeypatch.setattr(UNetRunner, "run", watched)
    given = spec(size=SMALL, steps=1)
    for loras, carried in (([], False), ([(files[2], 0.5)], True), ([(files[2], 0.0)], False), ([], False)):
        draw(carrying, given, loras)
        assert (calls[-1].features.loras is not None) == carried


def test_what_rows_cannot_carry_is_drawn_merged_and_the_request_is_told(
    pocket_family: Family, merging: Studio, carrying: Studio, tmp_path: Path
) -> None:
    given = spec(size=SMALL, steps=1)
    loras = [(write_lora(tmp_path / "wide.safetensors", pocket_family, 130, 1, ("attn2.to_q",)), 0.5)]
    wanted = draw(merging, given, loras)
    events = send(carrying, "one", given, loras)
    told = [events.get(timeout=120)]
    while not isinstance(told[-1], Drawn):
        told.append(events.get(timeout=120))
    notes = [each.text for each in told if isinstance(each, Note)]
    assert notes == [
        "The LoRAs are merged into weights of their own, for their ranks add up to 130, and rows carry up to 128."
    ]
    assert torch.equal(carrying.watched.latents[-1], wanted)


def test_a_set_that_many_ask_for_is_merged(carrying: Studio, files: list[Path]) -> None:
    given = spec(size=SMALL, steps=1)
    loras = [(files[2], 0.5)]
    carried = draw(carrying, given, loras)
    for _ in range(SHARED - 2):
        carrying.variants.note_request(VariantSpec(adapters=(LoraRef(files[2], 0.5),)))
    assert len(carrying.drawer.variants()) == 1
    assert far_apart(draw(carrying, given, loras), carried) < LATENT
    assert len(carrying.drawer.variants()) == 2


def test_on_a_device_that_does_not_hold_the_family_they_come_with_the_unet(
    pocket_family_folder: Path, merging: Studio, files: list[Path]
) -> None:
    unet = merging.family.unet
    room = sum(each.nbytes for each in unet.parameters())
    family = load_family(pocket_family_folder, torch.device("cpu"), torch.float32, plan_of(room + ROOM))
    studio = Studio(family, branch_bytes=ROOM)
    given, pictures = LOOKS["canny"]
    loras = [(files[3], 0.6), (files[5], -0.4)]
    try:
        latent = draw(studio, given, loras, pictures)
        residency = studio.family.residency
        assert isinstance(residency, OnDemand)
        assert residency.held_bytes <= room + ROOM
        assert len(studio.drawer.variants()) == 1
    finally:
        studio.drawer.close()
    assert far_apart(latent, draw(merging, given, loras, pictures)) < LATENT


@pytest.mark.parametrize("carried", [True, False])
def test_a_setting_merges_all(pocket_family_folder: Path, files: list[Path], carried: bool) -> None:
    drawer = Drawer.open(DrawingSettings(family=pocket_family_folder, lora_branches=carried))
    given = spec(size=SMALL, steps=1)
    try:
        for scale in (0.5, 0.6):
            found = [FoundLora(Lora(source=files[2].name, scale=scale), files[2])]
            events: Queue[Any] = Queue()
            drawer.submit("one", given, prepare(given, (), found), events.put)
            assert isinstance(last(events), Drawn)
        assert len(drawer.variants()) == (1 if carried else 2)
    finally:
        drawer.close()
