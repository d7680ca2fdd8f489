"""What the fields of pictures that come in promise at the Fooocus endpoints."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmarks.pocket.acceptance.inpaint import share_changed
from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.oracle import Oracle, standing_out
from benchmarks.pocket.world.scenes import Scene, Thing
from tests.integration.calls import FOOOCUS, png
from tests.integration.fields.calling import (
    BLANK,
    GIVEN,
    GREEN,
    GREEN_SCENE,
    GUIDED,
    HOLE,
    OTHER,
    RED,
    Caller,
    Check,
    far,
    mean_colour,
    reads,
)

MODIFY = "Modify Content (add objects, change background, etc.)"


def control(call: Caller) -> None:
    """Things are where the hint has them, the more the stronger and the longer it acts."""
    hint = draw(Scene((Thing("circle", "red", "big", "left"),), "blue"), 256, 256)
    asked: dict[str, Any] = {"prompt": "a red circle, blue background", "control_image_url": png(hint)}

    def agreement(**fields: Any) -> float:
        pictures = call.many(**asked, control_type="PyraCanny", **fields)
        wanted = standing_out(hint).astype(bool)
        found = [standing_out(picture).astype(bool) for picture in pictures]
        return float(np.mean([(each & wanted).sum() / max((each | wanted).sum(), 1) for each in found]))

    assert agreement() > agreement(control_image_weight=0) + 0.2
    assert agreement() > agreement(control_image_stop_at=0) + 0.2
    looks = call.many(
        prompt="", control_image_url=png(OTHER), control_type="ImagePrompt", control_image_weight=1, num_images=4
    )
    assert reads(GREEN_SCENE, looks) >= 0.75


def image_prompts(call: Caller) -> None:
    """Each of the four takes over what its type says."""
    base = {**call.given, "prompt": ""}
    none = mean_colour(call.many(**base))
    target = mean_colour([OTHER])
    for slot in range(1, 5):
        picture = {"image_url": png(OTHER), "type": "ImagePrompt", "weight": 1.0, "stop_at": 1.0}
        drawn = call.many(**{**base, f"image_prompt_{slot}": picture})
        assert np.abs(mean_colour(drawn) - target).sum() < np.abs(none - target).sum(), slot
        weak = call.many(**{**base, f"image_prompt_{slot}": {**picture, "weight": 0.3}})
        assert np.abs(mean_colour(weak) - target).sum() > np.abs(mean_colour(drawn) - target).sum(), slot
        short = call.many(**{**base, f"image_prompt_{slot}": {**picture, "stop_at": 0.0}})
        assert np.abs(mean_colour(short) - target).sum() > np.abs(mean_colour(drawn) - target).sum(), slot


def uov(call: Caller) -> None:
    kept = call(prompt=RED, uov_image_url=png(GIVEN), uov_method="Upscale (Fast 2x)").picture
    assert kept.shape == (512, 512, 3)
    found = Oracle().read(kept)
    assert found is not None
    assert found.background == "blue"


def mixed(call: Caller, **fields: Any) -> tuple[float, float]:
    """How far pictures are from the image prompt's colours without and with mixing."""
    look = {"image_url": png(OTHER), "type": "ImagePrompt", "weight": 1.0, "stop_at": 1.0}
    target = mean_colour([OTHER])
    flag = next(name for name in fields if name.startswith("mixing"))
    if call.endpoint == FOOOCUS:  # its only image prompt
        guiding = {"control_image_url": png(OTHER), "control_type": "ImagePrompt"}
    else:
        guiding = {"image_prompt_1": look}
    asked = {**fields, "prompt": "", **guiding}
    alone, both = (call(**{**asked, flag: on}).picture for on in (False, True))
    hole = np.s_[alone.shape[0] // 3 : 2 * alone.shape[0] // 3]
    return tuple(float(np.abs(mean_colour([each[hole, hole]]) - target).sum()) for each in (alone, both))


def mixing_inpaint(call: Caller) -> None:
    alone, both = mixed(
        call, inpaint_image_url=png(BLANK), mask_image_url=png(HOLE), mixing_image_prompt_and_inpaint=True
    )
    assert both < alone


def mixing_vary(call: Caller) -> None:
    alone, both = mixed(
        call, uov_image_url=png(BLANK), uov_method="Vary (Strong)", mixing_image_prompt_and_vary_upscale=True
    )
    assert both < alone


def inpaint(call: Caller) -> None:
    """What is marked shows the prompt, and nothing far from it changes; without a mask nothing is drawn from it."""
    drawn = call(prompt=RED, **GUIDED[call.family], inpaint_image_url=png(BLANK), mask_image_url=png(HOLE)).picture
    assert share_changed(drawn, BLANK, HOLE[..., 0]) == 0
    red = drawn[64:192, 64:192].reshape(-1, 3)
    assert ((red[:, 0] > 128) & (red[:, 2] < 128)).mean() > 0.2


def inpaint_mode(call: Caller) -> None:
    """Improve Detail keeps of what is there more than Modify Content does."""
    marked_part = {"prompt": GREEN, "inpaint_image_url": png(GIVEN), "mask_image_url": png(HOLE)}
    kept, changed = (
        call(**marked_part, inpaint_mode=mode).picture
        for mode in (
            "Improve Detail (face, hand, eyes, etc.)",
            MODIFY,
        )
    )
    assert far([kept], [GIVEN]) < far([changed], [GIVEN])


def inpaint_additional_prompt(call: Caller) -> None:
    asked = {"inpaint_image_url": png(BLANK), "mask_image_url": png(HOLE), "inpaint_mode": MODIFY}
    drawn = call(prompt="blue background", inpaint_additional_prompt="a big red circle", **asked).picture
    without = call(prompt="blue background", **asked).picture
    redness = [float((each[..., 0] > 128).mean()) for each in (drawn, without)]
    assert redness[0] > redness[1]


def outpaint_selections(call: Caller) -> None:
    wide = call(prompt=RED, inpaint_image_url=png(GIVEN), outpaint_selections=["Left", "Right"]).picture
    assert wide.shape[0] == 256
    assert 400 <= wide.shape[1] <= 420
    assert np.abs(np.median(wide[:, :32].reshape(-1, 3), axis=0) - GIVEN[0, 0]).max() < 32


OVERRIDDEN: dict[str, Any] = {
    "prompt": GREEN,
    "inpaint_image_url": png(GIVEN),
    "mask_image_url": png(HOLE),
    "override_inpaint_options": True,
}


def override_inpaint_options(call: Caller) -> None:
    asked = {**OVERRIDDEN, "inpaint_strength": 0.3}
    counts, ignored = (call(**{**asked, "override_inpaint_options": on}).picture for on in (True, False))
    assert far([counts], [GIVEN]) < far([ignored], [GIVEN])


def inpaint_disable_initial_latent(call: Caller) -> None:
    asked = {**OVERRIDDEN, "inpaint_strength": 0.5}
    kept, gone = (call(**asked, inpaint_disable_initial_latent=off).picture for off in (False, True))
    assert far([kept], [GIVEN]) < far([gone], [GIVEN])


def inpaint_engine(call: Caller) -> None:
    seen = [call(**OVERRIDDEN, inpaint_engine=version).picture for version in ("None", "v1", "v2.5", "v2.6")]
    for at, one in enumerate(seen):
        assert all(far([one], [other]) > 0 for other in seen[:at])
    assert far(seen[2:3], seen[3:]) < far(seen[:1], seen[3:])  # versions of one model are alike


def inpaint_strength(call: Caller) -> None:
    weak, strong = (call(**OVERRIDDEN, inpaint_strength=value).picture for value in (0.3, 1.0))
    assert far([weak], [GIVEN]) < far([strong], [GIVEN])


def inpaint_respective_field(call: Caller) -> None:
    """Drawn from a wider area, a thing is smaller in pixels of the drawing: the whole is still as it was far away."""
    near, whole = (call(**OVERRIDDEN, inpaint_respective_field=value).picture for value in (0.0, 1.0))
    for each in (near, whole):
        assert share_changed(each, GIVEN, HOLE[..., 0]) == 0
    assert far([near], [whole]) > 0.5


def inpaint_erode_or_dilate(call: Caller) -> None:
    def touched(pixels: float) -> float:
        drawn = call(**OVERRIDDEN, inpaint_erode_or_dilate=pixels).picture
        return float((np.abs(drawn.astype(int) - GIVEN).max(axis=-1) > 16).mean())

    assert touched(-32) < touched(0) < touched(32)


def invert_mask(call: Caller) -> None:
    drawn = call(**OVERRIDDEN, invert_mask=True).picture
    inside = np.abs(drawn.astype(int) - GIVEN)[104:152, 104:152].mean()
    outside = np.abs(drawn.astype(int) - GIVEN)[:24].mean()
    assert inside < 2 < outside


CONTROL: Mapping[str, Check] = MappingProxyType(
    dict.fromkeys(
        ("control_image_url", "control_type", "control_image_weight", "control_image_stop_at"),
        control,
    )
)
PROMPTS: Mapping[str, Check] = MappingProxyType(
    {f"image_prompt_N.{name}": image_prompts for name in ("image_url", "type", "weight", "stop_at")}
)
VARIED: Mapping[str, Check] = MappingProxyType(
    {"uov_image_url": uov, "uov_method": uov, "mixing_image_prompt_and_vary_upscale": mixing_vary}
)
HOLED: Mapping[str, Check] = MappingProxyType({"inpaint_image_url": inpaint, "mask_image_url": inpaint})
MIXED: Mapping[str, Check] = MappingProxyType({"mixing_image_prompt_and_inpaint": mixing_inpaint})
CHANGED: Mapping[str, Check] = MappingProxyType(
    {
        "inpaint_mode": inpaint_mode,
        "inpaint_additional_prompt": inpaint_additional_prompt,
        "outpaint_selections": outpaint_selections,
    }
)
OVERRIDING: Mapping[str, Check] = MappingProxyType(
    {
        "override_inpaint_options": override_inpaint_options,
        "inpaint_disable_initial_latent": inpaint_disable_initial_latent,
        "inpaint_engine": inpaint_engine,
        "inpaint_strength": inpaint_strength,
        "inpaint_respective_field": inpaint_respective_field,
        "inpaint_erode_or_dilate": inpaint_erode_or_dilate,
        "invert_mask": invert_mask,
    }
)
