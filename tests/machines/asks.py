"""Requests as clients send them, each with a seed of its own, by which its picture is known."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.integration.calls import FAST, FAST_IMAGE_TO_IMAGE, FOOOCUS, IMAGE_PROMPT, INPAINT, UPSCALE_OR_VARY, png
from tests.machines.load import Ask, Priority, Way

SIDE = 256
ENLARGED = 1024  # the least side of what is enlarged or varied
COLOURS = ("red", "green", "blue", "yellow", "purple", "pink", "black", "brown")
BLUE = png(np.full((SIDE, SIDE, 3), (0, 0, 255), np.uint8))
RECEIVER = "https://receiver.example.com/told"  # nobody hears it, for these machines see no other
_MARKED = np.zeros((SIDE, SIDE, 3), np.uint8)
_MARKED[64:192, 64:192] = 255

PLAIN: Mapping[str, Any] = {
    "image_size": {"width": SIDE, "height": SIDE},
    "num_inference_steps": 4,
    "guidance_scale": 1,
    "expand_prompt": False,
    "enable_refiner": False,
    "format": "png",
}
FOOOCUS_PLAIN: Mapping[str, Any] = {
    "aspect_ratio": "256x256",
    "performance": "Lightning",
    "styles": [],
    "output_format": "png",
}
IMAGE_PROMPTED: Mapping[str, Any] = {**FOOOCUS_PLAIN, "image_prompt_1": {"type": "ImagePrompt", "image_url": BLUE}}
WHOLE: Mapping[str, Any] = {"guidance_scale": 3, "expand_prompt": True, "enable_refiner": True}
KINDS: Mapping[str, Mapping[str, Any]] = {
    FAST: PLAIN,
    FAST_IMAGE_TO_IMAGE: {
        "expand_prompt": False,
        "enable_refiner": False,
        "num_inference_steps": 6,
        "guidance_scale": 1,
        "format": "png",
        "image_url": BLUE,
        "strength": 0.6,
    },
    FOOOCUS: FOOOCUS_PLAIN,
    IMAGE_PROMPT: IMAGE_PROMPTED,
    INPAINT: {**FOOOCUS_PLAIN, "inpaint_image_url": BLUE, "mask_image_url": png(_MARKED)},
    UPSCALE_OR_VARY: {**FOOOCUS_PLAIN, "uov_image_url": BLUE, "uov_method": "Upscale (Fast 2x)"},
}
# How many of 200, and what they ask for besides. What is inpainted or varied is drawn at 1024 x 1024, and what is
# expanded goes through a language model: few of them take as long as all the others together.
MIX: Sequence[tuple[str, Way, Priority, int, Mapping[str, Any]]] = (
    (FAST, "queue", "normal", 65, {}),
    (FAST, "queue", "low", 20, {}),
    (FAST, "run", "normal", 30, {}),
    (FAST, "subscribe", "normal", 15, {}),
    (FAST, "stream", "normal", 5, WHOLE),
    (FAST, "cancel", "normal", 15, {}),
    (FAST_IMAGE_TO_IMAGE, "queue", "normal", 15, {}),
    (FOOOCUS, "queue", "normal", 10, {}),
    (FOOOCUS, "run", "normal", 5, {}),
    (FOOOCUS, "queue", "low", 5, {"styles": ["Fooocus V2"]}),
    (IMAGE_PROMPT, "queue", "normal", 6, {}),
    (UPSCALE_OR_VARY, "queue", "normal", 5, {}),
    (UPSCALE_OR_VARY, "queue", "low", 1, {"uov_method": "Vary (Subtle)"}),
    (INPAINT, "queue", "normal", 3, {}),
)


def mixed() -> list[Ask]:
    """Two hundred, of every endpoint, way and priority, in an order that mixes them."""
    asks = [(endpoint, way, priority, more) for endpoint, way, priority, number, more in MIX for _ in range(number)]
    order = [(number * 77) % len(asks) for number in range(len(asks))]  # 77 and 200 have no common divisor
    return [_ask(*asks[place], seed) for seed, place in enumerate(order)]


def through_all_stages(seed: int) -> Ask:
    """One that no deployment is left out of, and whose end a webhook is to tell."""
    given = {**IMAGE_PROMPTED, "styles": ["Fooocus V2"], "enable_safety_checker": True}
    return Ask(IMAGE_PROMPT, {**given, "prompt": "a red circle", "seed": seed}, webhook=RECEIVER)


def plain(number: int, way: Way = "queue", first_seed: int = 0, **more: Any) -> list[Ask]:
    """As many of the fast endpoint, unchecked, for engines that draw nothing."""
    given = {**PLAIN, "guidance_scale": 2, "enable_safety_checker": False, "prompt": "a cube", **more}
    return [Ask(FAST, {**given, "seed": first_seed + place}, way) for place in range(number)]


def _ask(endpoint: str, way: Way, priority: Priority, more: Mapping[str, Any], seed: int) -> Ask:
    colour = COLOURS[seed % len(COLOURS)]
    given = {**KINDS[endpoint], **more, "prompt": f"a {colour} circle on a white background", "seed": seed}
    return Ask(endpoint, given, way, priority=priority)
