"""The outlines are what the pipelines read. The module that computes them is run by node."""

import random
from typing import Any

import numpy as np
import pytest

from gateway.endpoints.fooocus import INPAINT, INPAINT_MODES
from pipelines.images.area import area_of
from pipelines.images.masks import grown
from pipelines.images.resize import cover
from pipelines.spec import Size
from tests.gateway.playground.by_node import by_node

NAMES = (
    *("inpaint_mode", "outpaint_selections", "invert_mask", "override_inpaint_options"),
    *("inpaint_respective_field", "inpaint_erode_or_dilate"),
)


def computed(areas: Any = (), covers: Any = (), modes: Any = ()) -> Any:
    return by_node("reads.mjs", {"areas": areas, "covers": covers, "modes": modes})


def test_the_area_round_a_hole_is_the_one_that_is_drawn() -> None:
    chance = random.Random(4)
    asked, expected = [], []
    for _ in range(200):
        width, height = chance.randint(64, 400), chance.randint(64, 400)
        rows, columns = (sorted(chance.sample(range(side), 2)) for side in (height, width))
        by, field = chance.choice([0, 3, 64]), chance.choice([0, 0.3, 0.618, 1])
        mask = np.zeros((height, width), np.uint8)
        mask[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = 255
        box = area_of(grown(mask, by), field)
        asked.append([{"rows": rows, "columns": columns}, width, height, by, field])
        expected.append({"left": box.left, "top": box.top, "width": box.width, "height": box.height})
    assert computed(areas=asked)["areas"] == expected


@pytest.mark.parametrize(("width", "height"), [(320, 192), (192, 320), (256, 256), (301, 77)])
def test_what_covers_a_size_is_the_centre_of_a_picture(width: int, height: int) -> None:
    # a picture in which each pixel is where it is
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    pixels = np.stack([across, down, 0 * down], axis=2).astype(np.uint8)
    (box,) = computed(covers=[[width, height, 512, 384]])["covers"]
    read = cover(pixels, Size(width=512, height=384))
    edges = [read[:, 0, 0].mean(), read[:, -1, 0].mean(), read[0, :, 1].mean(), read[-1, :, 1].mean()]
    left, top = box["left"], box["top"]
    told = [left / width, (left + box["width"]) / width, top / height, (top + box["height"]) / height]
    assert np.allclose(edges, 255 * np.array(told), atol=5)


@pytest.mark.parametrize("mode", INPAINT_MODES)
def test_a_mode_says_how_much_is_looked_at(mode: str) -> None:
    values = {name: INPAINT.input.model_fields[name].default for name in NAMES}
    own = {**values, "inpaint_mode": mode, "override_inpaint_options": True, "inpaint_erode_or_dilate": 4.0}
    inverted = {**own, "invert_mask": True, "inpaint_respective_field": 0.25}
    sides = {**values, "inpaint_mode": mode, "outpaint_selections": ["Left"]}
    told = computed(modes=[{**values, "inpaint_mode": mode}, own, inverted, sides])["modes"]
    options = INPAINT_MODES[mode]
    usual = options.respective_field
    assert told == [
        {"field": usual, "by": 0, "inverted": False},
        {"field": 0.618, "by": 4, "inverted": False},
        {"field": 0.25, "by": -4, "inverted": True},
        {"field": 1 if options.outpaints else usual, "by": 0, "inverted": False},
    ]
