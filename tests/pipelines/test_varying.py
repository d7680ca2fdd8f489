"""Varying and enlarging, through the engine with the pocket family."""

import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.pocket.acceptance.upscaler import detail_over_bicubic
from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.exam import held_out
from benchmarks.pocket.world.oracle import Oracle
from benchmarks.pocket.world.scenes import Scene, Thing
from pipelines.errors import DrawingFault, InputFault, JobCancelled
from pipelines.events import Drawn, Pixels, Step
from pipelines.inputs import Enlarging, Inputs
from pipelines.performance import LIGHTNING_LORA
from pipelines.preparing import find_loras
from pipelines.prompts.phrasebook import BUNDLED
from pipelines.spec import Guidance, Size, Spec, Upscale, Vary
from pipelines.weights.family import Family
from tests.pipelines.studio import Studio, held_up, last, spec

LIGHTNING: dict[str, Any] = {
    "size": None,
    "steps": 4,
    "sampler": "euler",
    "schedule": "sgm_uniform",
    "loras": (LIGHTNING_LORA,),
}
SMALL = Size(width=128, height=128)
ENLARGE = Upscale(source="", factor=2)


@pytest.fixture(scope="module")
def studio(pocket_family: Family) -> Iterator[Studio]:
    studio = Studio(pocket_family)
    yield studio
    studio.drawer.close()


def photograph(height: int, width: int) -> Pixels:
    coarse = np.random.default_rng(5).integers(30, 226, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def submit(studio: Studio, name: str, wanted: Spec, **inputs: Any) -> "queue.Queue[Any]":
    """Of inputs made by hand, for what Fooocus' rules draw is never small."""
    events: queue.Queue[Any] = queue.Queue()
    loras = tuple(find_loras(wanted, studio.family.catalogue))
    texts = BUNDLED.assembled(wanted).images
    studio.drawer.submit(name, wanted, Inputs(SMALL, loras=loras, texts=texts, **inputs), events.put)
    return events


def over(side: int = 64, *, denoised: bool = True) -> Enlarging:
    return Enlarging(photograph(side, side), 128, 128, denoised=denoised)


def test_an_enlarged_picture_is_drawn_over_the_more_the_stronger(studio: Studio) -> None:
    given = draw(Scene((Thing("star", "yellow", "big", "left"),), "green"), 64, 64)
    apart = []
    for strength in (0.1, 0.382, 0.85):
        upscale = ENLARGE.model_copy(update={"strength": strength})
        wanted = spec(prompt="a red circle on a blue background", pictures=(upscale,), **LIGHTNING)
        drawn = last(submit(studio, "over", wanted, enlarging=Enlarging(given, 128, 128, denoised=True)))
        assert isinstance(drawn, Drawn)
        assert {"upscale", "encode", "denoise", "decode"} <= set(drawn.timings)
        apart.append(changed(given, drawn.images[0]))
    assert apart[0] < apart[1] < apart[2]
    assert apart[0] < 10


def test_each_seed_draws_over_the_same_enlarged_picture(studio: Studio) -> None:
    before = studio.engine._executor.calls["upscale"]
    images = last(submit(studio, "two", spec(seeds=(1, 2), pictures=(ENLARGE,)), enlarging=over())).images
    assert studio.engine._executor.calls["upscale"] == before + 1
    assert not np.array_equal(images[0], images[1])
    alone = last(submit(studio, "second", spec(seeds=(2,), pictures=(ENLARGE,)), enlarging=over())).images
    assert np.abs(images[1].astype(int) - alone[0]).max() <= 1


def test_what_is_just_enlarged_is_one_picture_without_a_denoising(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.listeners.PROGRESS_S", 0.0)
    monkeypatch.setattr("pipelines.stages.upscale.TILE", 64)
    monkeypatch.setattr("pipelines.stages.upscale.OVERLAP", 16)
    monkeypatch.setattr("pipelines.stages.upscale.prepare_enlarging.__defaults__", (64, 16))
    before, held = studio.engine.stats().unet_calls, studio.variants.names()
    wanted = spec(steps=0, seeds=(1, 2), loras=(), pictures=(ENLARGE,))
    enlarging = Enlarging(photograph(75, 131), 262, 150, denoised=False)
    events = submit(studio, "alone", wanted, enlarging=enlarging)
    seen = []
    while isinstance(event := events.get(timeout=60), Step):
        seen.append((event.step, event.steps))
    assert event.images.shape == (1, 150, 262, 3)
    assert seen == [(tile, 6) for tile in range(7)]
    assert set(event.timings) == {"upscale"}
    assert (studio.engine.stats().unet_calls, studio.variants.names()) == (before, held)
    shrunk = np.asarray(Image.fromarray(event.images[0]).resize((131, 75), Image.Resampling.BOX))
    assert np.abs(shrunk.astype(int) - enlarging.pixels).mean() < 4


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("denoised", [False, True])
def test_an_upscaler_that_overflows_gives_nobody_a_picture(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, ahead: bool, denoised: bool
) -> None:
    other = Studio(studio.family, ahead=ahead)
    broken = other.drawer._upscaler.get()
    monkeypatch.setattr(broken, "forward", lambda pictures: torch.full((1, 3, 256, 256), torch.nan))
    try:
        wanted = spec(steps=4 if denoised else 0, loras=(), pictures=(ENLARGE,))
        assert isinstance(last(submit(other, "one", wanted, enlarging=over(denoised=denoised))), DrawingFault)
    finally:
        other.drawer.close()


def test_an_enlarging_can_be_cancelled_between_its_tiles(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.stages.upscale.prepare_enlarging.__defaults__", (64, 16))
    monkeypatch.setattr("pipelines.listeners.PROGRESS_S", 0.0)
    wanted = spec(steps=0, loras=(), pictures=(ENLARGE,))
    events = submit(studio, "long", wanted, enlarging=Enlarging(photograph(700, 700), 1400, 1400, denoised=False))
    while not (isinstance(event := events.get(timeout=60), Step) and event.step):
        pass
    studio.drawer.cancel("long")
    assert isinstance(last(events), JobCancelled)


def test_a_family_without_an_upscaler_draws_everything_else(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for when the first request needs it, and by nobody before."""
    asked: list[str] = []

    def part(name: Any) -> Any:
        asked.append(name)
        raise InputFault("feature_not_supported", "there is none")

    monkeypatch.setattr(studio.family.catalogue, "part", part)
    other = Studio(studio.family)
    try:
        assert other.draw(spec()).shape == (1, 128, 128, 3)
        assert asked == []
        assert isinstance(last(submit(other, "one", spec(pictures=(ENLARGE,)), enlarging=over())), InputFault)
        assert asked == ["upscaler"]
    finally:
        other.drawer.close()


def test_varied_and_enlarged_rows_share_their_calls_with_others_and_change_none(studio: Studio) -> None:
    guided = {"guidance": Guidance(scale=3.0), "sampler": "dpmpp_2m_sde", "schedule": "karras"}
    jobs: dict[str, tuple[Spec, dict[str, Any]]] = {
        "text": (spec(steps=6), {}),
        "varied": (spec(steps=6, pictures=(Vary(source="", strength=0.5),)), {"start": photograph(128, 128)}),
        "guided": (
            spec(steps=6, pictures=(Vary(source="", strength=0.85),), **guided),
            {"start": photograph(128, 128)},
        ),
        "enlarged": (spec(steps=6, pictures=(ENLARGE,)), {"enlarging": over()}),
    }
    alone, calls = {}, 0
    for name, (wanted, inputs) in jobs.items():
        before = studio.engine.stats().unet_calls
        assert isinstance(last(submit(studio, name, wanted, **inputs)), Drawn)
        calls += studio.engine.stats().unet_calls - before
        alone[name] = studio.watched.latents[-1]
    del studio.watched.latents[:]
    before = studio.engine.stats().unet_calls
    with held_up(studio):
        waiting = [submit(studio, name, wanted, **inputs) for name, (wanted, inputs) in jobs.items()]
        fast = submit(studio, "fast", spec(steps=0, loras=(), pictures=(ENLARGE,)), enlarging=over(denoised=False))
    assert all(isinstance(last(events), Drawn) for events in (*waiting, fast))
    assert studio.engine.stats().unet_calls - before < 0.7 * calls
    for latent in alone.values():
        assert min(float((latent - other).abs().max()) for other in studio.watched.latents) < 1e-3


def varied(studio: Studio, scene: Scene, text: str, strength: float) -> tuple[Pixels, Pixels]:
    """A picture of the scene, and what is drawn of it."""
    given = draw(scene, 256, 256)
    wanted = spec(prompt=text, pictures=(Vary(source="", strength=strength),), **LIGHTNING)
    return given, studio.draw(wanted, pictures=[given])[0]


def changed(given: Pixels, drawn: Pixels) -> float:
    small = np.asarray(Image.fromarray(drawn).resize(given.shape[1::-1], Image.Resampling.BOX))
    return float(np.abs(small.astype(int) - given).mean())


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.long)])
def test_subtle_keeps_what_is_there_and_strong_changes_more(studio: Studio, count: int) -> None:
    oracle, kept, more = Oracle(), 0, 0
    for scene, text in zip(*held_out(count), strict=True):
        given, subtle = varied(studio, scene, text, 0.5)
        assert subtle.shape == (1024, 1024, 3)
        found = oracle.read(subtle)
        kept += found is not None and [(each.shape, each.place) for each in found.things] == [
            (each.shape, each.place) for each in scene.things
        ]
        more += changed(given, varied(studio, scene, text, 0.85)[1]) > changed(given, subtle)
    assert kept >= 0.9 * count
    assert more >= 0.9 * count


@pytest.mark.parametrize("count", [1, pytest.param(20, marks=pytest.mark.long)])
def test_an_enlarged_picture_has_more_detail_than_a_bicubic_one(studio: Studio, count: int) -> None:
    """Of a picture that was drawn here, as it was asked for: a thing between small and big may be read as either."""
    oracle, kept, tried = Oracle(), 0, 0
    for scene, text in zip(*held_out(2 * count), strict=True):
        if tried == count:
            break
        given = studio.draw(spec(prompt=text, size=Size(width=512, height=512)))[0]
        if oracle.read(given) != scene:
            continue
        tried += 1
        drawn = studio.draw(spec(prompt=text, pictures=(ENLARGE,), **LIGHTNING), pictures=[given])[0]
        assert drawn.shape == (1024, 1024, 3)
        assert detail_over_bicubic(drawn, given) > 1
        kept += oracle.read(drawn) == scene
    assert tried == count
    assert kept >= 0.9 * count


@pytest.mark.parametrize(
    ("count", "side"),
    [(1, 256), pytest.param(20, 256, marks=pytest.mark.long), pytest.param(20, 512, marks=pytest.mark.long)],
)
def test_a_crisp_drawing_that_is_enlarged_has_more_detail_than_a_bicubic_one(
    studio: Studio, count: int, side: int
) -> None:
    for scene, text in zip(*held_out(count), strict=True):
        given = draw(scene, side, side)
        drawn = studio.draw(spec(prompt=text, pictures=(ENLARGE,), **LIGHTNING), pictures=[given])[0]
        assert detail_over_bicubic(drawn, given) > 1


def test_enlarging_alone_sharpens(studio: Studio) -> None:
    given = draw(held_out(1)[0][0], 128, 136)
    enlarging = Enlarging(given, 256, 272, denoised=False)
    (fast,) = last(submit(studio, "fast", spec(steps=0, loras=(), pictures=(ENLARGE,)), enlarging=enlarging)).images
    assert fast.shape == (272, 256, 3)
    assert detail_over_bicubic(fast, given) > 1
