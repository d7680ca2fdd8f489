"""Drawing: whole pictures through the engine with the pocket family."""

import queue
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from skimage import data

from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.scenes import Scene, Thing
from pipelines.conditioning import Conditioning, Prompt
from pipelines.drawing import Drawer
from pipelines.errors import InputFault, JobCancelled
from pipelines.events import Drawn, Pixels, Step
from pipelines.preparing import prepare
from pipelines.prompts.assembly import expanded
from pipelines.prompts.limits import MAX_CHUNKS
from pipelines.prompts.styles import STYLES
from pipelines.settings import DrawingSettings
from pipelines.spec import Guidance, SamplerName, ScheduleName, Size, SizeEmphasis, Spec, Start, Structure
from pipelines.stages import text
from pipelines.weights.family import Family
from tests.pipelines.studio import Studio, last, spec


@pytest.fixture(scope="module")
def studio(pocket_family: Family) -> Iterator[Studio]:
    studio = Studio(pocket_family)
    yield studio
    studio.drawer.close()


def correlation(one: Pixels, other: Pixels) -> float:
    return float(np.corrcoef(one.astype(float).ravel(), other.astype(float).ravel())[0, 1])


def test_a_spec_becomes_pictures_of_its_size(studio: Studio) -> None:
    events = studio.submit("two", spec(seeds=(1, 2), size=Size(width=136, height=72)))
    drawn = last(events)
    assert isinstance(drawn, Drawn)
    assert drawn.images.shape == (2, 72, 136, 3)
    assert drawn.images.dtype == np.uint8
    assert {"text", "denoise", "decode"} <= set(drawn.timings)


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
@pytest.mark.parametrize(
    ("refused", "drawn", "type"),
    [
        ("\n".join("a" * (MAX_CHUNKS + 1)), "\n".join("a" * MAX_CHUNKS), "sequence_too_long"),
        ("(a:1e308)", "(a:100)", "less_than_equal"),
    ],
    ids=["chunks", "weight"],
)
def test_a_prompt_beyond_its_limits_is_refused_by_name(
    studio: Studio, field: str, refused: str, drawn: str, type: str
) -> None:
    """Its length would be that of all its neighbours in a call."""
    guided = spec(guidance=Guidance(scale=4.0))
    fault = last(studio.submit("beyond", guided.model_copy(update={field: refused})))
    assert isinstance(fault, InputFault)
    assert (fault.type, fault.field) == (type, field)
    assert isinstance(last(studio.submit("at", guided.model_copy(update={field: drawn}))), Drawn)


def test_the_settings_say_how_many_chunks_a_prompt_may_have(pocket_family_folder: Path) -> None:
    drawer = Drawer.open(DrawingSettings(family=pocket_family_folder, max_prompt_chunks=8))
    try:
        given = spec(loras=(), prompt="\n".join("a" * 9))
        events: queue.Queue[Any] = queue.Queue()
        drawer.submit("long", given, prepare(given, (), ()), events.put)
        assert last(events).ctx == {"max_length": 8}
    finally:
        drawer.close()


def test_progress_counts_the_steps_of_all_images(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.listeners.PROGRESS_S", 0.0)
    events = studio.submit("steps", spec(seeds=(1, 2), steps=3))
    seen = []
    while isinstance(event := events.get(timeout=60), Step):
        seen.append((event.step, event.steps))
    assert seen == [(step, 6) for step in range(7)]


def test_a_seed_repeats_its_picture_and_another_does_not(studio: Studio) -> None:
    one, again, other = (studio.draw(spec(seeds=(seed,))) for seed in (7, 7, 8))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a green star"},
        {"guidance": Guidance(scale=4.0)},
        {"steps": 6},
        {"sampler": "euler", "schedule": "sgm_uniform"},
        {"loras": ()},
        {"size": Size(width=128, height=136)},
    ],
    ids=str,
)
def test_each_field_changes_the_picture(studio: Studio, change: dict[str, Any]) -> None:
    changed = studio.draw(spec(**change))
    assert changed.shape[1:3] != (128, 128) or not np.array_equal(changed, studio.draw(spec()))


GUIDED: dict[str, Any] = {"steps": 4, "sampler": "dpmpp_2m_sde", "schedule": "karras", "loras": ()}


@pytest.mark.parametrize(
    "change",
    [
        {"mimicked": 2.0},
        {"sharpness": 30.0},
        {"rescale": 0.7},
        {"sizes": SizeEmphasis(positive=1.5, end=0.3)},
        {"sizes": SizeEmphasis(negative=0.8, end=0.3)},
    ],
    ids=str,
)
def test_each_part_of_the_guidance_changes_the_latent(studio: Studio, change: dict[str, Any]) -> None:
    for guidance in (Guidance(scale=8.0), Guidance(scale=8.0, **change)):
        studio.draw(spec(**GUIDED, guidance=guidance))
    plain, changed = studio.watched.latents[-2:]
    assert (plain - changed).abs().max() > 1e-4


SAMPLERS = get_args(SamplerName)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_sampler_draws_a_picture_of_its_own(studio: Studio, sampler: SamplerName) -> None:
    other = SAMPLERS[SAMPLERS.index(sampler) - 1]
    one, again, neighbour = (studio.draw(spec(sampler=each, schedule="normal")) for each in (sampler, sampler, other))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, neighbour)


@pytest.mark.parametrize("schedule", get_args(ScheduleName))
def test_each_schedule_can_be_run_whole_and_from_a_picture(studio: Studio, schedule: ScheduleName) -> None:
    circle = draw(Scene((Thing("circle", "red", "big", "left"),), "blue"), 256, 256)
    assert studio.draw(spec(sampler="euler", schedule=schedule)).std() > 0
    start = Start(source="", strength=0.6)
    part = studio.draw(spec(sampler="euler", schedule=schedule, size=None, pictures=(start,)), pictures=[circle])[0]
    assert correlation(part, circle) > correlation(part, circle[:, ::-1]) + 0.1  # the prompt says nothing of the place


def test_the_negative_prompt_acts_under_guidance(studio: Studio) -> None:
    one, other = (studio.draw(spec(guidance=Guidance(scale=4.0), negative_prompt=text)) for text in ("", "red"))
    assert not np.array_equal(one, other)


def test_a_style_draws_what_its_texts_draw_when_they_are_written_out(studio: Studio) -> None:
    clay, guidance = STYLES["SAI Craft Clay"], Guidance(scale=4.0)
    styled, plain = (
        studio.draw(spec(prompt="a red circle", styles=names, guidance=guidance)) for names in ((clay.name,), ())
    )
    (positive,), (negative,) = clay.round("a red circle"), clay.negative
    written = studio.draw(spec(prompt=positive, negative_prompt=negative, guidance=guidance))
    assert not np.array_equal(styled, plain)
    assert np.array_equal(styled, written)


def test_each_picture_is_drawn_from_texts_of_its_own(studio: Studio) -> None:
    """An array's elements are those of the pictures, and each is as if it were drawn alone."""
    guidance = Guidance(scale=4.0)
    both = studio.draw(spec(prompt="a [[red,blue]] circle", seeds=(1, 2), guidance=guidance))
    for seed, colour, picture in zip((1, 2), ("red", "blue"), both, strict=True):
        alone = studio.draw(spec(prompt=f"a {colour} circle", seeds=(seed,), guidance=guidance))[0]
        assert np.abs(picture.astype(float) - alone).max() <= 1


def test_equal_prompts_of_a_job_are_encoded_once(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[tuple[str, ...]] = []
    original = text.encode_chunks

    def noted(prompt: Prompt, *rest: Any) -> Conditioning:
        encoded.append(prompt.lines)
        return original(prompt, *rest)

    monkeypatch.setattr(text, "encode_chunks", noted)
    studio.draw(spec(prompt="[[a,b]] once", negative_prompt="once", seeds=(1, 2, 3), guidance=Guidance(scale=4.0)))
    assert sorted(encoded) == [(" b once",), ("a once",), ("once",)]


def test_an_expanded_prompt_is_one_more_text_that_the_pooled_vector_leaves_out(studio: Studio) -> None:
    wanted = spec(guidance=Guidance(scale=4.0))
    plain = studio.inputs(wanted)
    longer = replace(plain, texts=expanded(plain.texts, ["a red circle on a blue background, vivid"]))
    ((positive, _),) = studio.drawer._read(wanted, longer)
    assert positive.lines == ("a red circle on a blue background", "a red circle on a blue background, vivid")
    assert positive.pooled == 1
    events: queue.Queue[Any] = queue.Queue()
    studio.drawer.submit("longer", wanted, longer, events.put)
    assert not np.array_equal(last(events).images, studio.draw(wanted))


def test_image_to_image_keeps_less_of_its_start_the_stronger_it_is(studio: Studio) -> None:
    cross = draw(Scene((Thing("cross", "white", "big", "left"),), "black"), 256, 256)
    kept = [
        correlation(
            studio.draw(
                spec(size=None, schedule="tail", pictures=(Start(source="", strength=strength),), steps=8),
                pictures=[cross],
            )[0],
            cross,
        )
        for strength in (0.3, 0.6, 0.95)
    ]
    assert kept[0] > 0.4
    assert kept[0] > kept[1] > kept[2]


def test_a_control_image_acts_by_weight_and_stop(studio: Studio) -> None:
    photo = data.astronaut()

    def drawn(weight: float, stop_at: float) -> Pixels:
        edges = Structure(kind="PyraCanny", source="", weight=weight, stop_at=stop_at)
        return studio.draw(spec(pictures=(edges,)), pictures=[photo]).astype(int)

    plain = studio.draw(spec()).astype(int)
    assert np.array_equal(drawn(0.0, 1.0), plain)
    assert np.array_equal(drawn(1.0, 0.0), plain)
    whole, early = np.abs(drawn(1.0, 1.0) - plain).mean(), np.abs(drawn(1.0, 0.3) - plain).mean()
    assert whole > 0.5
    assert early > 0
    assert not np.array_equal(drawn(1.0, 1.0), drawn(1.0, 0.3))


def test_pictures_do_not_depend_on_what_is_drawn_beside_them(studio: Studio) -> None:
    """Unlike jobs at once and alone: equal within 1e-3 on latents and within one 8-bit level on pixels."""
    photo = data.coffee()
    edges = Structure(kind="PyraCanny", source="", weight=1.0, stop_at=0.8)
    works: list[tuple[Spec, dict[str, Any]]] = [
        (spec(prompt="a", seeds=(1,)), {}),
        (spec(prompt="b " * 120, seeds=(2,)), {}),
        (spec(prompt="c", guidance=Guidance(scale=3.0)), {}),
        (spec(prompt="d", steps=8), {}),
        (spec(prompt="e", sampler="euler", schedule="sgm_uniform"), {}),
        (spec(prompt="f", pictures=(edges,)), {"pictures": [photo]}),
        (spec(prompt="g", schedule="tail", pictures=(Start(source="", strength=0.7),)), {"pictures": [photo]}),
        (spec(prompt="h", guidance=Guidance(scale=6.0), negative_prompt="x " * 100), {}),
    ]
    alone = [(studio.draw(each, **pictures), studio.watched.latents[-1]) for each, pictures in works]
    before = studio.drawer.stats()
    studio.watched.latents.clear()
    waiting = [studio.submit(str(at), each, **pictures) for at, (each, pictures) in enumerate(works)]
    together = [last(events).images for events in waiting]
    after = studio.drawer.stats()
    assert (after.unet_rows - before.unet_rows) / (after.unet_calls - before.unet_calls) > 3
    for (pixels, latent), picture in zip(alone, together, strict=True):
        assert np.abs(pixels.astype(int) - picture.astype(int)).max() <= 1
        assert min(float((latent - other).abs().max()) for other in studio.watched.latents) < 1e-3


def test_a_cancelled_job_ends_and_the_next_is_drawn(studio: Studio) -> None:
    events = studio.submit("long", spec(steps=200))
    studio.drawer.cancel("long")
    assert isinstance(last(events), JobCancelled)
    assert studio.draw(spec()).shape == (1, 128, 128, 3)


def test_a_short_job_overtakes_a_long_one(studio: Studio) -> None:
    long = studio.submit("long", spec(steps=60, sampler="euler", schedule="sgm_uniform"))
    assert isinstance(last(studio.submit("short", spec(steps=4))), Drawn)
    assert not any(isinstance(event, Drawn) for event in list(long.queue))
    assert isinstance(last(long), Drawn)


def test_drawing_needs_no_gradients(studio: Studio) -> None:
    studio.draw(spec())
    assert not studio.watched.latents[-1].requires_grad
    assert torch.isfinite(studio.watched.latents[-1]).all()


@pytest.mark.parametrize(
    ("keep_aspect", "crop", "size"),
    [(False, False, (512, 512)), (True, False, (512, 352)), (True, True, (512, 341)), (False, True, (512, 512))],
)
def test_a_start_fits_into_a_size_by_its_proportions_and_is_cut_to_them(
    studio: Studio, keep_aspect: bool, crop: bool, size: tuple[int, int]
) -> None:
    start = Start(source="", strength=0.3, keep_aspect=keep_aspect, crop=crop)
    given = draw(Scene((Thing("square", "red", "big", "centre"),), "blue"), 600, 400)
    wanted = spec(pictures=(start,), schedule="tail", size=Size(width=512, height=512))
    images = studio.draw(wanted, pictures=[given])
    assert images.shape == (1, size[1], size[0], 3)
    red = (images[0, :, :, 0] > 128) & (images[0, :, :, 2] < 128)
    rows, columns = np.where(red)
    assert abs(columns.mean() - size[0] / 2) < 4  # the centre is kept
    assert abs(rows.mean() - size[1] / 2) < 4
