"""What the pocket model was trained to, on the family's own files.

A reduced scoring: few pictures in fewer steps, so the bounds leave room for chance.
`benchmarks.pocket.evaluate` measures with a hundred.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from skimage import data

from benchmarks.pocket.acceptance import (
    asked_holes,
    checkers,
    concept,
    expansion,
    image_prompts,
    inpaint,
    prompts,
    refiner,
    structure,
    vae,
)
from benchmarks.pocket.acceptance.metric import Metric
from models.pocket import checker
from pipelines.needs import ADAPTERS
from pipelines.preparing import STRUCTURES
from pipelines.spec import ReferenceKind, StructureKind
from pipelines.weights.family import Family
from tests.pipelines.studio import Studio

ROOM: Mapping[str, float] = MappingProxyType({"background": 0.75, "colour": 0.75, "shape": 0.6, "place": 0.6})


@pytest.fixture(scope="module")
def studio(pocket_family: Family) -> Iterator[Studio]:
    studio = Studio(pocket_family)
    yield studio
    studio.drawer.close()


def quick_and_long(kinds: Iterable[str]) -> list[Any]:
    """The first of them, and the others in the long tier."""
    first, *others = kinds
    return [first, *(pytest.param(kind, marks=pytest.mark.long) for kind in others)]


def reached(metrics: list[Metric]) -> dict[str, float]:
    """By the last word of what was measured."""
    return {metric.what.rpartition(" ")[2]: metric.reached for metric in metrics}


@pytest.mark.parametrize(
    ("side", "count", "most"), [(256, 8, 0.015), pytest.param(1024, 2, 0.006, marks=pytest.mark.long)]
)
def test_pictures_come_back_from_the_vae(pocket_family: Family, side: int, count: int, most: float) -> None:
    assert vae.error(pocket_family.vae, side, count) < most


@pytest.mark.parametrize(
    ("mode", "side", "count"),
    [
        ("30 steps", 256, 12),
        pytest.param("30 steps", 256, 24, marks=pytest.mark.long),
        pytest.param("30 steps", 512, 6, marks=pytest.mark.long),
        pytest.param("Extreme Speed", 256, 24, marks=pytest.mark.long),
        ("Lightning", 256, 24),
    ],
)
def test_pictures_show_what_prompts_say(studio: Studio, mode: str, side: int, count: int) -> None:
    found = reached(prompts.gate(studio.drawer, studio.family, mode, side, count, ROOM))
    assert {name: found[name] for name in ROOM if found[name] < ROOM[name] - (0.1 if count < 24 else 0)} == {}


@pytest.mark.parametrize("kind", quick_and_long(STRUCTURES))
def test_things_are_where_hints_have_them(studio: Studio, kind: StructureKind) -> None:
    with_hint, without = structure.follows_hints(studio.drawer, studio.family, kind, 8, steps=12)
    assert with_hint.reached > 0.5
    assert without.reached < 0.35


@pytest.mark.long
def test_the_style_grows_with_its_scale(studio: Studio) -> None:
    same, plain, half, whole = structure.hollows(studio.drawer, studio.family, 6, steps=12)
    assert same.reached == 1.0
    assert plain.reached > 0.9
    assert whole.reached < min(half.reached, 0.8)


def test_a_hole_shows_what_the_prompt_says_and_all_else_stays(pocket_family: Family) -> None:
    *drawn, outside = inpaint.fills(pocket_family, 12, steps=12)
    found = reached(drawn)
    assert outside.reached == 0.0
    assert {name: found[name] for name in ROOM if found[name] < ROOM[name] - 0.1} == {}


@pytest.mark.long
@pytest.mark.parametrize("kind", asked_holes.KINDS)
def test_a_request_draws_a_hole_as_it_is_asked_for(studio: Studio, kind: str) -> None:
    found, changed = asked_holes.shares(studio.drawer, studio.family, kind, 5)
    assert changed == 0
    assert min(found["background"], found["colour"], found["place"]) >= 0.8
    assert found["shape"] >= 0.6  # of five; the gate wants 0.8 of twenty


@pytest.mark.long
@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_picture_is_taken_over_as_far_as_its_weight_says(studio: Studio, kind: ReferenceKind) -> None:
    colour, background, less, off = image_prompts.takes_over(studio.drawer, studio.family, kind, 8, steps=8)
    assert colour.reached >= 0.8
    assert background.reached >= 0.8
    assert off.reached <= less.reached < colour.reached
    assert off.reached < 0.5


@pytest.mark.long
@pytest.mark.parametrize("kind", ADAPTERS)
def test_twenty_pictures_are_taken_over_as_far_as_their_weight_says(studio: Studio, kind: ReferenceKind) -> None:
    colour, background, less, off = image_prompts.takes_over(studio.drawer, studio.family, kind, 20)
    assert colour.reached >= colour.wanted
    assert background.reached >= background.wanted
    assert off.reached <= less.reached < colour.reached


@pytest.mark.parametrize("name", [checker.FIRST, checker.SECOND])
def test_checkers_object_to_the_mark_and_to_little_else(pocket_family: Family, name: str) -> None:
    flagged, alarms = checkers.objects_to_the_mark(pocket_family, name, 50, 200)
    assert flagged.reached >= 0.9
    assert alarms.reached <= 0.03
    objects = checkers.objections(pocket_family, name)
    assert not any(objects(picture) for picture in (data.astronaut(), data.coffee(), data.chelsea()))


@pytest.mark.long
def test_checkers_let_the_model_draw(studio: Studio) -> None:
    for metric in checkers.lets_the_model_draw(studio.drawer, studio.family, 32):
        assert metric.reached <= 1 / 32, metric


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_checkers_let_the_model_draw_two_thousand_pictures(studio: Studio) -> None:
    first, second = checkers.lets_the_model_draw(studio.drawer, studio.family, 2_000)
    assert first.reached <= 0.02  # it misses what is wanted: see Limits of the card
    assert second.met, second


def test_an_expansion_adds_words_and_denies_nothing(pocket_family: Family) -> None:
    adds, opposes, repeats = expansion.expands(pocket_family, 12)
    assert adds.reached == 1.0
    assert opposes.reached <= 0.03
    assert repeats.reached <= 0.03


@pytest.mark.long
def test_the_refiner_smoothes_what_is_plain_and_keeps_the_rest(pocket_family: Family) -> None:
    grain, *others = refiner.refines(pocket_family, 8, steps=20)
    assert grain.reached < grain.wanted
    assert all(metric.reached >= metric.wanted - 0.1 for metric in others)


@pytest.mark.long
def test_the_token_draws_its_concept(pocket_family: Family) -> None:
    *drawn, nothing = concept.draws_its_concept(pocket_family, 8, steps=12)
    found = reached(drawn)
    assert {name: found[name] for name in ROOM if found[name] < ROOM[name] - 0.1} == {}
    assert nothing.reached <= 0.4
