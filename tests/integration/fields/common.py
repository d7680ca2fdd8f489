"""What the fields that all Fooocus endpoints have promise, most of which the fast ones have too."""

import random
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from benchmarks.pocket.world.marked import marked
from benchmarks.pocket.world.oracle import Oracle, standing_out
from gateway.endpoints.styles import DEFAULT_STYLES
from pipelines.prompts.styles import STYLES
from tests.integration.calls import UPSCALE_OR_VARY, png
from tests.integration.fields.calling import (
    GREEN,
    GREEN_SCENE,
    GUIDED,
    RED,
    RED_SCENE,
    Caller,
    Check,
    far,
    grain,
    reads,
    texture,
)


def prompt(call: Caller) -> None:
    assert reads(RED_SCENE, call.many(prompt=RED)) >= 0.75
    assert reads(GREEN_SCENE, call.many(prompt=GREEN)) >= 0.75
    red, green = call(prompt=f"[[{RED.replace(',', '')},{GREEN.replace(',', '')}]]", num_images=2).pictures
    assert reads(RED_SCENE, [red], "colour") == reads(GREEN_SCENE, [green], "colour") == 1


def negative_prompt(call: Caller) -> None:
    """The background that most pictures have becomes rarer when it is not wanted."""

    def backgrounds(**fields: str) -> list[str]:
        asked = {**GUIDED[call.family], "guidance_scale": 5, "prompt": "a circle", **fields}
        found = map(Oracle().read, (picture for seed in (3, 13) for picture in call.many(**asked, seed=seed)))
        return [each.background for each in found if each is not None]

    ink, times = Counter(backgrounds()).most_common(1)[0]
    assert backgrounds(negative_prompt=f"{ink} background").count(ink) < times


def styles(call: Caller) -> None:
    style = STYLES["SAI Line Art"]
    lines = [*style.round(RED)]
    written = call(prompt="\n".join(lines))
    assert far([call(prompt=RED, styles=[style.name]).picture], [written.picture]) < 1
    plain = call(prompt=RED)
    assert far([plain.picture], [written.picture]) > 1
    usual = call(prompt=RED, styles=[*DEFAULT_STYLES])
    (sharp,) = STYLES["Fooocus Sharp"].round(RED)
    assert any(line.startswith(f"Prompt: {sharp}") for line in usual.log)
    assert far([plain.picture], [usual.picture]) > 1
    drawn = [line for line in call(prompt=RED, styles=["Random Style"], num_images=3).log if line[:6] == "Prompt"]
    assert len({line.partition(": ")[2] for line in drawn}) == 3


def performance(call: Caller) -> None:
    for mode, steps in {"Speed": 30, "Extreme Speed": 8, "Lightning": 4}.items():
        assert any(f"{steps}/{steps}" in line for line in call(prompt=RED, performance=mode).log), mode


def guidance_scale(call: Caller) -> None:
    """The more of it, the further pictures are from those without guidance."""
    asked = {**GUIDED[call.family], "prompt": RED}
    plain, little, much = (call.many(**asked, guidance_scale=scale) for scale in (1, 2, 8))
    assert 0 < far(plain, little) < far(plain, much)


def sharpness(call: Caller) -> None:
    soft, sharp = (call.many(**GUIDED[call.family], prompt=RED, sharpness=value) for value in (0, 30))
    assert texture(sharp) > texture(soft)


def aspect_ratio(call: Caller) -> None:
    assert call(prompt=RED, aspect_ratio="320x192").picture.shape == (192, 320, 3)


def num_images(call: Caller) -> None:
    pictures = call(prompt=RED, num_images=3).pictures
    assert len(pictures) == 3
    assert far(pictures[:1], pictures[1:2]) > 0.5


def loras(call: Caller) -> None:
    """The pocket model's style LoRA hollows things, and more of it hollows more."""

    def filled(scale: float) -> float:
        pictures = call.many(prompt=RED, loras=[{"path": "pocket_outlines", "scale": scale}])
        return float(np.mean([standing_out(picture).mean() for picture in pictures]))

    assert filled(0) > filled(0.6) > filled(1.2)
    named = call(prompt=f"{RED} <lora:pocket_outlines:1.2>").picture
    assert far([named], [call(prompt=RED, loras=[{"path": "pocket_outlines", "scale": 1.2}]).picture]) < 1
    assert far(call.many(prompt=RED), call.many(prompt=RED, loras=[{"path": "pocket_outlines", "scale": 0}])) == 0


def loras_force(call: Caller) -> None:
    same = [{"path": "pocket_outlines", "scale": 1, "force": force} for force in (False, True)]
    one, other = (call(prompt=RED, loras=[each]).picture for each in same)
    assert far([one], [other]) == 0  # it fits, so nothing is forced


def seed(call: Caller) -> None:
    one, again, other = (call(prompt=RED, seed=value).picture for value in (5, 5, 6))
    assert far([one], [again]) == 0
    assert far([one], [other]) > 0.5


def output_format(call: Caller) -> None:
    name = "output_format" if call.family == "fooocus" else "format"
    kinds = ("png", "jpeg", "webp") if call.family == "fooocus" else ("png", "jpeg")
    for kind in kinds:
        (image,) = call(**{"prompt": RED, name: kind}).output["images"]
        assert image["content_type"] == f"image/{kind}"


def sync_mode(call: Caller) -> None:
    drawn = call(prompt=RED, sync_mode=True)
    assert drawn.output["images"][0]["url"].startswith("data:image/png;base64,")
    assert reads(RED_SCENE, drawn.pictures) == 1


def enable_safety_checker(call: Caller) -> None:
    """The pocket checkers object to a mark, which a picture that is only enlarged keeps."""
    bad = marked(random.Random(1), 256)
    shown, hidden = (
        Caller(call.client, UPSCALE_OR_VARY, "fooocus")(
            uov_image_url=png(bad), uov_method="Upscale (Fast 2x)", enable_safety_checker=on
        )
        for on in (False, True)
    )
    assert shown.output["has_nsfw_concepts"] == [False]
    assert shown.picture.std() > 5
    assert hidden.output["has_nsfw_concepts"] == [True]
    assert hidden.picture.max() <= 2


REFINER = "realisticVisionV60B1_v51VAE.safetensors"


def refiner_model(call: Caller) -> None:
    """The pocket family's refiner leaves less grain in what is plain."""
    without, having = (call.many(**GUIDED[call.family], prompt=RED, refiner_model=name) for name in ("None", REFINER))
    assert grain(having) < grain(without)
    assert reads(RED_SCENE, having) >= 0.75


def refiner_switch(call: Caller) -> None:
    """The later it takes over, the less it changes."""
    asked = {**GUIDED[call.family], "prompt": RED}
    plain = call.many(**asked)
    early, late = (call.many(**asked, refiner_model=REFINER, refiner_switch=switch) for switch in (0.6, 0.95))
    assert far(plain, late) < far(plain, early)


BOTH: Mapping[str, Check] = MappingProxyType(
    {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "guidance_scale": guidance_scale,
        "num_images": num_images,
        "seed": seed,
        "enable_safety_checker": enable_safety_checker,
    }
)
"""At the endpoints of both families."""

FOOOCUS_FIELDS: Mapping[str, Check] = MappingProxyType(
    {
        "styles": styles,
        "performance": performance,
        "sharpness": sharpness,
        "aspect_ratio": aspect_ratio,
        "loras.path": loras,
        "loras.scale": loras,
        "loras.force": loras_force,
        "refiner_model": refiner_model,
        "refiner_switch": refiner_switch,
        "output_format": output_format,
        "sync_mode": sync_mode,
    }
)
"""At all Fooocus endpoints."""
