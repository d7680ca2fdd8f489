"""What the fields of pictures that come in promise at the Fooocus endpoints."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmarks.pocket.acceptance.inpaint import share_changed
from benchmarks.pocket.world.drawing import Pixels, draw
from benchmarks.pocket.world.oracle import Oracle, standing_out
from benchmarks.pocket.world.scenes import Scene, Thing
from tests.integration.calls import FOOOCUS, IMAGE_PROMPT, png
from tests.integration.fields.calling import (
    BLANK,
    GIVEN,
    GREEN,
    GREEN_SCENE,
    GUIDED,
    HOLE,
    OTHER,
    RED,
    RED_SCENE,
    Caller,
    Check,
    Drawn,
    far,
    mean_colour,
    reads,
)

MODIFY = "Modify Content (add objects, change background, etc.)"
EDGES = "PyraCanny"


def overlap(pictures: Sequence[Pixels], hint: Pixels) -> float:
    """How much of what stands out lies where it does in the hint, from 0 to 1."""
    wanted = standing_out(hint).astype(bool)
    found = [standing_out(picture).astype(bool) for picture in pictures]
    return float(np.mean([(each & wanted).sum() / max((each | wanted).sum(), 1) for each in found]))


def control(call: Caller) -> None:
    """Things are where the hint has them, the more the stronger and the longer it acts."""
    hint = draw(Scene((Thing("circle", "red", "big", "left"),), "blue"), 256, 256)
    asked: dict[str, Any] = {"prompt": "a red circle, blue background", "control_image_url": png(hint)}

    def agreement(**fields: Any) -> float:
        return overlap(call.many(**asked, control_type=EDGES, **fields), hint)

    assert agreement() > agreement(control_image_weight=0) + 0.2
    assert agreement() > agreement(control_image_stop_at=0) + 0.2
    looks = call.many(
        prompt="", control_image_url=png(OTHER), control_type="ImagePrompt", control_image_weight=1, num_images=4
    )
    assert reads(GREEN_SCENE, looks) >= 0.75


LOOK: dict[str, Any] = {"image_url": png(OTHER), "type": "ImagePrompt", "weight": 1.0, "stop_at": 1.0}
SLOTS = tuple(f"image_prompt_{number}" for number in range(1, 5))


def from_look(pictures: Sequence[Pixels]) -> float:
    """How far colours are from those of the image prompt."""
    return float(np.abs(mean_colour(pictures) - mean_colour([OTHER])).sum())


def image_prompt_url(call: Caller) -> None:
    """In each of the four places it lends its colours."""
    none = from_look(call.many(prompt=""))
    for slot in SLOTS:
        assert from_look(call.many(prompt="", **{slot: LOOK})) < none, slot


def image_prompt_type(call: Caller) -> None:
    """Structures say where things are and not how they look; looks also lend their colours."""
    hint = draw(Scene((Thing("square", "green", "big", "left"),), "yellow"), 256, 256)
    wanted = Scene((Thing("square", "red", "big", "left"),), "blue")
    asked = "a red square, blue background"
    unled = overlap(call.many(prompt=asked), hint)
    for slot, kind in zip(SLOTS, (EDGES, "CPDS"), strict=False):
        placed = call.many(prompt=asked, **{slot: {**LOOK, "image_url": png(hint), "type": kind}})
        assert overlap(placed, hint) > unled + 0.2, kind
        assert reads(wanted, placed) >= 0.75, kind
    none = from_look(call.many(prompt=""))
    for slot, kind in zip(SLOTS[2:], ("ImagePrompt", "FaceSwap"), strict=True):
        assert from_look(call.many(prompt="", **{slot: {**LOOK, "type": kind}})) < none / 2, kind


def image_prompt_weight(call: Caller) -> None:
    for slot in SLOTS:
        weak, strong = (call.many(prompt="", **{slot: {**LOOK, "weight": weight}}) for weight in (0.3, 1.0))
        assert from_look(strong) < from_look(weak), slot


def image_prompt_stop_at(call: Caller) -> None:
    for slot in SLOTS:
        short, long = (call.many(prompt="", **{slot: {**LOOK, "stop_at": stop}}) for stop in (0.0, 1.0))
        assert from_look(long) < from_look(short), slot


def uov_image(call: Caller) -> None:
    """What it shows is enlarged, to no less than 1024 pixels a side; nothing of the prompt is drawn."""
    for given, scene in ((GIVEN, RED_SCENE), (OTHER, GREEN_SCENE)):
        kept = call(prompt=RED, uov_image_url=png(given), uov_method="Upscale (Fast 2x)").picture
        assert kept.shape == (1024, 1024, 3)
        assert Oracle().read(kept) == scene


def uov_method(call: Caller) -> None:
    """Disabled leaves the picture aside; varying draws over it, Subtle less; enlarging multiplies its sides, and all
    but the fast one draws over it as well."""

    def became(method: str, side: int = 256, prompt: str = RED) -> Drawn:
        return call(prompt=prompt, uov_image_url=png(draw(RED_SCENE, side, side)), uov_method=method)

    assert reads(GREEN_SCENE, [became("Disabled", prompt=GREEN).picture]) == 1
    subtle, strong = (became(f"Vary ({much})", prompt=GREEN).picture for much in ("Subtle", "Strong"))
    given = np.kron(GIVEN, np.ones((4, 4, 1), np.uint8))
    assert far([subtle], [given]) < far([strong], [given])
    fast, twice, half = became("Upscale (Fast 2x)", 544), became("Upscale (2x)", 544), became("Upscale (1.5x)", 704)
    for drawn, side in ((fast, 1088), (twice, 1088), (half, 1056)):
        assert drawn.picture.shape == (side, side, 3)
        assert Oracle().read(drawn.picture) == RED_SCENE
    told = [any(line.startswith("Prompt: ") for line in drawn.log) for drawn in (fast, twice, half)]
    assert told == [False, True, True]


def mixed(call: Caller, flag: str, **fields: Any) -> tuple[Pixels, Pixels]:
    """What is drawn without and with mixing."""
    if call.endpoint == FOOOCUS:  # its only image prompt
        guiding: dict[str, Any] = {"control_image_url": png(OTHER), "control_type": "ImagePrompt"}
    else:
        guiding = {"image_prompt_1": LOOK}
    alone, both = (call(**fields, prompt="", **guiding, **{flag: on}).picture for on in (False, True))
    return alone, both


def mixing_inpaint(call: Caller) -> None:
    """Unmixed, the image prompt does not act on what is inpainted; at its own endpoint it is the inpainting that does
    not act."""
    asked = {"inpaint_image_url": png(BLANK), "mask_image_url": png(HOLE)}
    alone, both = mixed(call, "mixing_image_prompt_and_inpaint", **asked)
    if call.endpoint == IMAGE_PROMPT:
        assert share_changed(alone, BLANK, HOLE[..., 0]) > 0.5
        alone = call(**asked, prompt="").picture
    assert share_changed(both, BLANK, HOLE[..., 0]) == 0
    hole = np.s_[64:192, 64:192]
    assert from_look([both[hole]]) < from_look([alone[hole]])


def mixing_vary(call: Caller) -> None:
    """Unmixed, the image prompt does not act on what is varied; at its own endpoint it is the varying that does not
    act, with which small pictures become large."""
    asked = {"uov_image_url": png(BLANK), "uov_method": "Vary (Strong)"}
    alone, both = mixed(call, "mixing_image_prompt_and_vary_upscale", **asked)
    if call.endpoint == IMAGE_PROMPT:
        assert alone.shape == (256, 256, 3)
        alone = call(**asked, prompt="").picture
    assert alone.shape == both.shape == (1024, 1024, 3)
    assert from_look([both]) < from_look([alone]) / 2


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
    {
        "image_prompt_N.image_url": image_prompt_url,
        "image_prompt_N.type": image_prompt_type,
        "image_prompt_N.weight": image_prompt_weight,
        "image_prompt_N.stop_at": image_prompt_stop_at,
    }
)
VARIED: Mapping[str, Check] = MappingProxyType(
    {"uov_image_url": uov_image, "uov_method": uov_method, "mixing_image_prompt_and_vary_upscale": mixing_vary}
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
