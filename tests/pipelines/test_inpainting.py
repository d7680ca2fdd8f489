"""Inpainting and outpainting through the engine with the pocket family: what is drawn, what is kept, and with whom."""

import copy
import random
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, get_args

import numpy as np
import pytest
from torch import Tensor

from benchmarks.pocket.acceptance.inpaint import apply_patch, share_changed, with_another_thing
from benchmarks.pocket.acceptance.inpaint import hole as hole_around
from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.exam import accuracy, held_out
from benchmarks.pocket.world.scenes import Scene, Thing
from pipelines.engine.tasks import Answers
from pipelines.events import Drawn, Pixels
from pipelines.spec import Canvas, Guidance, InpaintEngine, Lora, Mask, Size, Spec, Structure
from pipelines.unet.guide import Evaluate
from pipelines.unet.stage import EvaluationStage
from pipelines.weights.family import Family
from pipelines.weights.lora.reading import read_lora
from pipelines.weights.variant_spec import LoraRef, VariantSpec
from tests.pipelines.studio import LCM, Studio, held_up, last, spec

SIDE = 128
SCENE = Scene((Thing("circle", "red", "big", "centre"),), "blue")
ROOM = draw(SCENE, SIDE, SIDE)


GUIDED: dict[str, Any] = {
    "sampler": "dpmpp_2m_sde",
    "schedule": "karras",
    "steps": 12,
    "loras": (),
    "guidance": Guidance(scale=4.0),
}


@pytest.fixture(scope="module")
def studio(pocket_family: Family) -> Iterator[Studio]:
    studio = Studio(pocket_family)
    yield studio
    studio.drawer.close()


def marked(rows: slice, columns: slice, side: int = SIDE) -> Pixels:
    mask = np.zeros((side, side, 3), np.uint8)
    mask[rows, columns] = 255
    return mask


MIDDLE = marked(slice(36, 92), slice(36, 92))


def holed(prompt: str = "a green star on a blue background", resolution: int = SIDE, **given: Any) -> Spec:
    """A spec of a canvas and a mask. given: of the canvas, where it has such a field."""
    of_canvas = {name: given.pop(name) for name in list(given) if name in Canvas.model_fields}
    canvas = Canvas(source="", resolution=resolution, **of_canvas)
    pictures = (canvas, Mask(source=""), *given.pop("others", ()))
    return spec(prompt=prompt, pictures=pictures, **given)


def drawn(studio: Studio, wanted: Spec, *pictures: Pixels) -> Pixels:
    return studio.draw(wanted, pictures=list(pictures or (ROOM, MIDDLE)))


def difference(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


def filled_holes(studio: Studio, count: int, **given: Any) -> tuple[dict[str, float], float]:
    """What the oracle reads of held-out captions drawn in holes, and the most that changed far from one."""
    scenes, said = held_out(count)
    before = [draw(with_another_thing(scene, random.Random(at)), 256, 256) for at, scene in enumerate(scenes)]
    masks = [255 * hole_around(scene.things[0], 256, None).astype(np.uint8) for scene in scenes]
    uploads = [np.repeat(mask[:, :, None], 3, axis=2) for mask in masks]
    found = [
        drawn(studio, holed(words, 256, seeds=(at,), **given), picture, upload)[0]
        for at, (words, picture, upload) in enumerate(zip(said, before, uploads, strict=True))
    ]
    changed = max(share_changed(*each) for each in zip(found, before, masks, strict=True))
    return accuracy(scenes, found), changed


def test_holes_show_what_prompts_say_and_nothing_far_from_them_changes(studio: Studio) -> None:
    found, changed = filled_holes(studio, 8, respective_field=1.0, steps=8)
    assert (found["background"] + found["colour"] + found["shape"]) / 3 >= 0.8
    assert found["colour"] >= 0.8
    assert changed == 0


@pytest.mark.long
@pytest.mark.parametrize("engine", ["v2.6", "None"])
def test_most_holes_show_what_prompts_say(studio: Studio, engine: str) -> None:
    found, changed = filled_holes(studio, 40, respective_field=1.0, steps=8, engine=engine)
    assert min(found["background"], found["colour"], found["shape"]) >= 0.8
    assert changed == 0


def test_outpainting_continues_the_background_at_each_side(studio: Studio) -> None:
    wanted = holed("a red circle on a blue background", outpaint=("Left", "Right", "Top", "Bottom"), steps=8)
    (whole,) = drawn(studio, wanted, ROOM, np.zeros_like(ROOM))
    assert whole.shape == (204, 204, 3)
    more = (204 - SIDE) // 2
    inner = slice(more + 32, more + SIDE - 32)
    np.testing.assert_array_equal(whole[inner, inner], ROOM[32:-32, 32:-32])
    blue = ROOM[0, 0].astype(float)
    for edge in (whole[:30], whole[-30:], whole[:, :30], whole[:, -30:]):
        assert np.abs(np.median(edge.reshape(-1, 3), axis=0) - blue).max() < 24


def test_the_answer_has_the_size_of_the_whole_picture_whatever_is_drawn(studio: Studio) -> None:
    odd = np.ascontiguousarray(ROOM[:117, :101])
    wanted = holed(respective_field=0.0, steps=2)
    assert drawn(studio, wanted, odd, MIDDLE[::2]).shape == (1, 117, 101, 3)


def test_a_mask_that_marks_nothing_draws_from_the_prompt_alone(studio: Studio) -> None:
    """fooocus-facts 6.1; so does one that is not there."""
    size = Size(width=64, height=72)
    plain = studio.draw(spec(prompt="a star", size=size, steps=2))
    for pictures in (holed("a star", size=size, steps=2), spec(prompt="a star", size=size, steps=2)):
        given = [ROOM, np.zeros_like(ROOM)] if pictures.pictures else []
        assert np.array_equal(studio.draw(pictures, pictures=given), plain)


def test_a_seed_repeats_its_picture_also_among_others(studio: Studio) -> None:
    both = drawn(studio, holed(seeds=(3, 4), steps=3))
    again = drawn(studio, holed(seeds=(3, 4), steps=3))
    assert np.array_equal(both, again)
    alone = drawn(studio, holed(seeds=(4,), steps=3))
    assert np.abs(both[1].astype(int) - alone[0].astype(int)).max() <= 1
    assert not np.array_equal(both[0], both[1])


def test_less_strength_keeps_more_of_what_is_there(studio: Studio) -> None:
    inside = MIDDLE > 0
    away = [
        np.abs(drawn(studio, holed(strength=strength, engine="None"))[0].astype(float) - ROOM)[inside].mean()
        for strength in (0.2, 0.6, 1.0)
    ]
    assert away[0] < away[1] < away[2]


def test_without_an_initial_latent_what_was_there_leaves_nothing(studio: Studio) -> None:
    """A run of little noise keeps what it begins from; from noise alone it has nothing to keep."""
    given: dict[str, Any] = {**GUIDED, "prompt": "a red circle on a blue background", "strength": 0.2, "engine": "None"}
    (kept,), (gone,) = (drawn(studio, holed(**given, initial_latent=begins)) for begins in (True, False))
    inside = MIDDLE > 0
    assert np.abs(kept.astype(float) - ROOM)[inside].mean() * 2 < np.abs(gone.astype(float) - ROOM)[inside].mean()


class Recorded:
    """The groups of the evaluations that are asked for, and whether they carry a head and controls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[list[tuple[object, bool, int]]] = []
        original = EvaluationStage.run

        def run(stage: EvaluationStage, asks: Sequence[Evaluate]) -> Answers[Tensor]:
            self.calls.append([(ask.group, ask.positive.head is not None, len(ask.positive.controls)) for ask in asks])
            return original(stage, asks)

        monkeypatch.setattr(EvaluationStage, "run", run)


EDGES = Structure(kind="PyraCanny", source="", weight=0.8, stop_at=1.0)


def test_the_inpaint_model_draws_most_steps_and_the_base_the_last(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 8 steps the swap comes after the seventh, and takes head and controls away (fooocus-facts 4.6)."""
    seen = Recorded(monkeypatch)
    drawn(studio, holed(steps=8, others=(EDGES,)), ROOM, MIDDLE, ROOM)
    asked = [ask for (ask,) in seen.calls]
    assert [(head, controls) for _, head, controls in asked] == [(True, 1)] * 7 + [(False, 0)]
    assert len({group for group, _, _ in asked[:7]}) == 1
    assert asked[7][0] != asked[0][0]


@pytest.mark.parametrize(("engine", "heads"), [("v2.6", 4), ("None", 0)])
def test_an_engine_of_none_draws_with_the_base_alone(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, engine: str, heads: int
) -> None:
    seen = Recorded(monkeypatch)
    drawn(studio, holed(steps=4, engine=engine))
    asked = [ask for (ask,) in seen.calls]
    assert sum(head for _, head, _ in asked) == heads  # of 4 steps the inpaint model draws all
    assert len({group for group, _, _ in asked}) == 1


def test_unlike_holes_share_calls_with_each_other_and_their_last_steps_with_text(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    works: list[tuple[Spec, list[Pixels]]] = [
        (holed(steps=8, seeds=(1,), respective_field=1.0), [ROOM, MIDDLE]),
        (
            holed("a yellow heart", steps=8, seeds=(2,), others=(EDGES,), respective_field=1.0),
            [ROOM[::-1].copy(), MIDDLE, ROOM],
        ),
        (spec(prompt="a star", steps=20), []),
        (spec(prompt="a star " * 20, steps=20, pictures=(EDGES,)), [ROOM]),
    ]
    alone = []
    for wanted, pictures in works:
        drawn(studio, wanted, *pictures) if pictures else studio.draw(wanted)
        alone.append(studio.watched.latents[-1])
    seen = Recorded(monkeypatch)
    del studio.watched.latents[:]
    with held_up(studio):
        waiting = [studio.submit(str(at), wanted, pictures=given) for at, (wanted, given) in enumerate(works)]
    for events in waiting:
        assert isinstance(last(events), Drawn)
    assert any([head for _, head, _ in call] == [True, True] for call in seen.calls)
    assert any(len(call) > 2 and not any(head for _, head, _ in call) for call in seen.calls)
    for latent in alone:
        assert min(float((latent - other).abs().max()) for other in studio.watched.latents) < 1e-3


def test_a_patched_base_is_merged_once_and_loras_go_on_top(studio: Studio) -> None:
    family, store = studio.family, studio.variants
    patched = store.get(VariantSpec(patch="inpaint_patch"))
    assert patched.key.base.patch == "inpaint_v26.fooocus.patch.safetensors"
    assert store.get(VariantSpec(patch="inpaint_patch")).base is patched.base
    assert patched.head is not None
    wanted = copy.deepcopy(family.unet)
    apply_patch(wanted, family.catalogue.part("inpaint_patch"))
    path = family.catalogue.lora(LCM[0].source)
    assert path is not None
    loras = (LoraRef(path, 0.5),)
    both, lora = store.get(VariantSpec(loras, patch="inpaint_patch")), store.get(VariantSpec(loras))
    touched = studio.variants._merger.targets.match(read_lora(path)).layers
    changed = 0
    for name, parameter in wanted.named_parameters():
        assert np.allclose(parameter.detach(), patched.unet.get_parameter(name), atol=1e-6), name
        plain = family.unet.get_parameter(name)
        if ("unet", name) in touched:
            summed = parameter + lora.unet.get_parameter(name) - plain
            assert np.allclose(summed.detach(), both.unet.get_parameter(name), atol=1e-5), name
        else:
            assert both.unet.get_parameter(name) is patched.unet.get_parameter(name)
        changed += bool((parameter != plain).any())
    assert changed > 10
    assert len({each.group for each in (patched, both, lora)}) == 3


def test_each_version_of_the_inpaint_model_draws_another_picture(studio: Studio) -> None:
    found = [drawn(studio, holed(engine=engine)) for engine in get_args(InpaintEngine)]
    for one, other in combinations(found, 2):
        assert difference(one, other) > 0.1
    names = studio.drawer.variants()
    for version in ("", "_v25", "_v26"):
        assert any(f" inpaint{version}.fooocus.patch" in name for name in names)


def test_a_small_area_is_drawn_from_its_enlargement(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """A family without an upscaler draws it as it was resized."""
    wanted = holed(resolution=192, engine="None", strength=0.3, steps=2)
    enlarged = drawn(studio, wanted)
    monkeypatch.setattr(type(studio.family.catalogue), "has", lambda catalogue, part: part != "upscaler")
    resized = drawn(studio, wanted)
    assert enlarged.shape == resized.shape == (1, SIDE, SIDE, 3)
    assert 0 < difference(enlarged, resized) < 12


def test_a_lora_of_a_request_changes_what_is_drawn_in_the_hole(studio: Studio) -> None:
    plain = drawn(studio, holed(steps=4))
    styled = drawn(studio, holed(steps=4, loras=(*LCM, Lora(source="pocket_outlines", scale=1.0))))
    assert difference(plain, styled) > 0.3
    assert share_changed(styled[0], ROOM, MIDDLE[:, :, 0]) == 0
