"""Requests as clients send them, each with a seed of its own, by which its picture is known."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.integration.calls import FAST, FAST_IMAGE_TO_IMAGE, FOOOCUS, INPAINT, UPSCALE_OR_VARY, png
from tests.machines.load import Ask, Way

SIDE = 256
COLOURS = ("red", "green", "blue", "yellow", "purple", "pink", "black", "brown")
BLUE = png(np.full((SIDE, SIDE, 3), (0, 0, 255), np.uint8))
_MARKED = np.zeros((SIDE, SIDE, 3), np.uint8)
_MARKED[64:192, 64:192] = 255

PLAIN: Mapping[str, Any] = {
    "image_size": {"width": SIDE, "height": SIDE},
    "num_inference_steps": 4,
    "expand_prompt": False,
    "format": "png",
}
FOOOCUS_PLAIN: Mapping[str, Any] = {"aspect_ratio": "256x256", "performance": "Lightning", "output_format": "png"}
EXPANDED: tuple[Way, ...] = ("subscribe", "stream")  # the expander would take most of the cores
KINDS: Mapping[str, Mapping[str, Any]] = {
    FAST: PLAIN,
    FAST_IMAGE_TO_IMAGE: {
        "expand_prompt": False,
        "num_inference_steps": 6,
        "format": "png",
        "image_url": BLUE,
        "strength": 0.6,
    },
    FOOOCUS: FOOOCUS_PLAIN,
    INPAINT: {**FOOOCUS_PLAIN, "inpaint_image_url": BLUE, "mask_image_url": png(_MARKED)},
    UPSCALE_OR_VARY: {**FOOOCUS_PLAIN, "uov_image_url": BLUE, "uov_method": "Vary (Subtle)"},
}
# how many of 200
MIX: Sequence[tuple[str, Way, int]] = (
    (FAST, "queue", 80),
    (FAST, "run", 30),
    (FAST, "subscribe", 15),
    (FAST, "stream", 5),
    (FAST, "cancel", 15),
    (FAST_IMAGE_TO_IMAGE, "queue", 20),
    (FOOOCUS, "queue", 20),
    (INPAINT, "queue", 8),
    (UPSCALE_OR_VARY, "queue", 7),
)


def mixed() -> list[Ask]:
    """Two hundred, of every endpoint and way, in an order that mixes them."""
    asks = [(endpoint, way) for endpoint, way, number in MIX for _ in range(number)]
    order = [(number * 77) % len(asks) for number in range(len(asks))]  # 77 and 200 have no common divisor
    return [_ask(*asks[place], seed) for seed, place in enumerate(order)]


def plain(number: int, way: Way = "queue", first_seed: int = 0, **more: Any) -> list[Ask]:
    """As many of the fast endpoint, unchecked, for engines that draw nothing."""
    given = {**PLAIN, "enable_safety_checker": False, "prompt": "a cube", **more}
    return [Ask(FAST, {**given, "seed": first_seed + place}, way) for place in range(number)]


def _ask(endpoint: str, way: Way, seed: int) -> Ask:
    colour = COLOURS[seed % len(COLOURS)]
    given = {**KINDS[endpoint], "prompt": f"a {colour} circle on a white background", "seed": seed}
    if "expand_prompt" in given:
        given["expand_prompt"] = way in EXPANDED
    return Ask(endpoint, given, way)
