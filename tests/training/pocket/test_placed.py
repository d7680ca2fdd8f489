"""What is wanted of a thing follows a guess that has it elsewhere, and nothing that is not like it."""

import math
from dataclasses import replace

import pytest
import torch

from benchmarks.pocket.latents import pixels_of
from benchmarks.pocket.world.oracle import Oracle
from benchmarks.pocket.world.scenes import SHAPES, Scene, Thing
from training.pocket.placed import COUNTS, SWELLS, Placed

WIDTH, HEIGHT = 640, 384


def placed(shape: str, place: str = "centre") -> Placed:
    return Placed.as_said(Scene((Thing(shape, "red", "big", place),), "blue"), WIDTH, HEIGHT)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_drawn_as_its_scene_says(shape: str) -> None:
    there = placed(shape, "left")
    found = Oracle().read(pixels_of(there.latents()[None])[0])
    assert found is not None
    assert (found.things[0].colour, found.things[0].place, found.background) == ("red", "left", "blue")
    assert there.latents().shape == (4, HEIGHT // 8, WIDTH // 8)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_moves_and_swells_to_where_a_guess_has_it(shape: str) -> None:
    there = placed(shape)
    x, y = there.centre
    moved = Placed(there.scene, there.width, there.height, (x + 16, y - 8), 1.08 * there.radius)
    found = there.where_seen(moved.latents())
    assert math.dist(found.centre, moved.centre) < 2
    assert found.radius == pytest.approx(moved.radius, rel=0.05)


def test_it_moves_as_exactly_where_layers_compute_in_bfloat16() -> None:
    there = Placed.as_said(Scene((Thing("cross", "red", "small", "right"),), "blue"), 1344, 768)
    moved = replace(there, centre=(there.centre[0] + 16, there.centre[1] - 8))
    with torch.autocast("cpu", torch.bfloat16):
        found = there.where_seen(moved.latents())
    assert math.dist(found.centre, moved.centre) < 1


def test_a_round_guess_is_not_taken_for_a_larger_thing() -> None:
    there = placed("star")
    assert there.where_seen(there.latents("circle")).radius == pytest.approx(SWELLS[1] * there.radius)


@pytest.mark.parametrize("elsewhere", ["left", "right"])
def test_what_is_too_far_away_or_outside_its_hole_is_another(elsewhere: str) -> None:
    there = placed("circle")
    guess = placed("circle", elsewhere).latents()
    assert there.where_seen(guess) == there
    near = Placed(there.scene, there.width, there.height, (there.centre[0] + 16, there.centre[1]), there.radius)
    assert there.where_seen(near.latents(), torch.zeros(1, HEIGHT // 8, WIDTH // 8)) == there


def test_nothing_and_all_over_are_no_thing() -> None:
    there = placed("square")
    assert there.where_seen(there.empty()) == there
    assert there.where_seen(replace(there, radius=1_000).latents()) == there


def test_what_lies_in_the_circle_around_it_counts_for_more() -> None:
    there = placed("star")
    counts, shown = there.counts(), (there.latents() != there.empty()).any(dim=0)
    assert set(counts.unique().tolist()) == {1.0, COUNTS}
    assert (counts[0][shown] == COUNTS).float().mean() > 0.95
    assert (counts == COUNTS).float().mean() == pytest.approx(
        math.pi * (0.22 * HEIGHT) ** 2 / (WIDTH * HEIGHT), rel=0.25
    )
