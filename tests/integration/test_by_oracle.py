"""What the fields of pictures that come in promise, read by the oracle in what the running service draws.

Long: a hundred pictures, most of them of 1024 x 1024.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import httpx2
import numpy as np
import pytest

from benchmarks.pocket.acceptance.image_prompts import asked
from benchmarks.pocket.acceptance.inpaint import held_out_holes, share_changed
from benchmarks.pocket.acceptance.upscaler import LEAST_STEEPNESS, steepness_over_bicubic
from benchmarks.pocket.world.drawing import Pixels, draw
from benchmarks.pocket.world.exam import accuracy, held_out
from benchmarks.pocket.world.oracle import Oracle
from benchmarks.pocket.world.scenes import Scene, Thing
from pipelines.needs import ADAPTERS
from pipelines.spec import OutpaintSide, ReferenceKind
from tests.integration.calls import IMAGE_PROMPT, INPAINT, UPSCALE_OR_VARY, content, pixels, png, run
from tests.integration.conftest import Service

pytestmark = [pytest.mark.cluster, pytest.mark.long]

EXACT: dict[str, Any] = {"output_format": "png", "styles": [], "loras": [], "enable_safety_checker": False}
PAIRS, HOLES, VARIED, ENLARGED = 20, 10, 10, 10
HOW_HOLES: Mapping[str, Mapping[str, Any]] = {
    "in eight steps": {},
    "in thirty steps": {"performance": "Speed", "override_inpaint_options": True, "inpaint_respective_field": 1.0},
}


@pytest.fixture
def client(service: Service) -> Iterator[httpx2.Client]:
    """One that waits for large pictures in many steps."""
    with httpx2.Client(base_url=service.base_url, timeout=300, trust_env=False) as client:
        yield client


def drawn(client: httpx2.Client, endpoint: str, **fields: Any) -> Pixels:
    return pixels(content(client, run(client, endpoint, {**EXACT, **fields}))).astype(np.uint8)


@pytest.mark.parametrize("kind", get_args(ReferenceKind))
def test_an_image_prompts_colours_are_taken_over_and_less_at_little_weight(
    client: httpx2.Client, kind: ReferenceKind
) -> None:
    examples = asked(ADAPTERS[kind], PAIRS)
    found = {}
    for weight in (0.3, 1.0):
        pictures = [
            drawn(
                client,
                IMAGE_PROMPT,
                prompt=example.said,
                performance="Speed",
                aspect_ratio="256x256",
                seed=seed,
                image_prompt_1={"type": kind, "image_url": png(example.reference), "weight": weight, "stop_at": 1},
            )
            for seed, example in enumerate(examples)
        ]
        found[weight] = accuracy([example.scene for example in examples], pictures)
    assert found[1.0]["colour"] >= 0.8
    assert found[0.3]["colour"] < found[1.0]["colour"]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("how", HOW_HOLES.values(), ids=HOW_HOLES)
def test_holes_show_what_prompts_say_and_nothing_far_from_them_changes(
    client: httpx2.Client, how: Mapping[str, Any]
) -> None:
    scenes, said = held_out(HOLES)
    pictures = []
    for seed, (words, before, mask) in enumerate(zip(said, *held_out_holes(HOLES), strict=True)):
        after = drawn(
            client,
            INPAINT,
            prompt=words,
            seed=seed,
            inpaint_image_url=png(before),
            mask_image_url=png(mask),
            **how,
        )
        assert share_changed(after, before, mask) == 0
        pictures.append(after)
    found = accuracy(scenes, pictures)
    assert min(found["background"], found["colour"], found["shape"]) >= 0.8


@pytest.mark.parametrize("side", get_args(OutpaintSide))
def test_a_picture_is_continued_in_its_background_at_a_side(client: httpx2.Client, side: OutpaintSide) -> None:
    before = draw(Scene((Thing("circle", "red", "big", "centre"),), "blue"), 256, 256)
    whole = drawn(
        client,
        INPAINT,
        prompt="a red circle on a blue background",
        performance="Lightning",
        seed=1,
        inpaint_image_url=png(before),
        outpaint_selections=[side],
    )
    more = sum(whole.shape[:2]) - 512
    assert more == 76
    edge = {"Left": whole[:, :32], "Right": whole[:, -32:], "Top": whole[:32], "Bottom": whole[-32:]}[side]
    assert np.abs(np.median(edge.reshape(-1, 3), axis=0) - before[0, 0]).max() < 24


def test_subtle_keeps_shape_and_place_and_strong_changes_more(client: httpx2.Client) -> None:
    oracle, kept, more = Oracle(), 0, 0
    for seed, (scene, words) in enumerate(zip(*held_out(VARIED), strict=True)):
        given = draw(scene, 256, 256)
        subtle, strong = (
            drawn(
                client,
                UPSCALE_OR_VARY,
                prompt=words,
                performance="Lightning",
                seed=seed,
                uov_image_url=png(given),
                uov_method=f"Vary ({name})",
            )
            for name in ("Subtle", "Strong")
        )
        found = oracle.read(subtle)
        kept += found is not None and places(found.things) == places(scene.things)
        more += changed(given, strong) > changed(given, subtle)
    assert kept >= 0.9 * VARIED
    assert more >= 0.9 * VARIED


def test_an_enlarged_drawing_has_twice_the_sides_and_steeper_outlines_than_a_bicubic_one(client: httpx2.Client) -> None:
    for seed, (scene, words) in enumerate(zip(*held_out(ENLARGED), strict=True)):
        given = draw(scene, 512, 512)
        whole = drawn(
            client, UPSCALE_OR_VARY, prompt=words, seed=seed, uov_image_url=png(given), uov_method="Upscale (2x)"
        )
        assert whole.shape == (1024, 1024, 3)
        assert steepness_over_bicubic(whole, given) > LEAST_STEEPNESS[2]


def places(things: Sequence[Thing]) -> list[tuple[str, str]]:
    return [(thing.shape, thing.place) for thing in things]


def changed(given: Pixels, after: Pixels) -> float:
    """Mean levels by which a picture, shrunk to the one before, departs from it."""
    height, width = given.shape[:2]
    blocks = after.reshape(height, after.shape[0] // height, width, after.shape[1] // width, 3)
    return float(np.abs(blocks.mean(axis=(1, 3)) - given).mean())
