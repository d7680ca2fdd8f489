"""What the fields promise that the fast endpoints alone have."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from benchmarks.pocket.world.drawing import Pixels, draw
from benchmarks.pocket.world.scenes import Scene, Thing
from models.pocket.names import CONCEPT
from tests.conftest import POCKET
from tests.integration.calls import png
from tests.integration.fields.calling import (
    GIVEN,
    GREEN,
    GREEN_SCENE,
    OTHER,
    RED,
    RED_SCENE,
    Caller,
    Check,
    far,
    reads,
    uploaded,
)
from tests.integration.fields.common import output_format


def embeddings(call: Caller) -> None:
    """The pocket model's concept is a purple heart, and no word of the prompt says so."""
    content = (POCKET / "embeddings" / CONCEPT).read_bytes()
    purple = Scene((Thing("heart", "purple", "big", "centre"),), "white")
    with uploaded(call.client, content) as url:
        for tokens in ("<s0>", "<heart>"):
            asked = {"path": url} if tokens == "<s0>" else {"path": url, "tokens": [tokens]}
            drawn = call.many(prompt=f"a {tokens}, white background", embeddings=[asked], num_inference_steps=8)
            assert reads(purple, drawn, "colour") >= 0.75, tokens


def enable_refiner(call: Caller) -> None:
    """It finishes the same picture: of LCM's steps the pocket refiner takes no grain."""
    without, having = (call.many(prompt=RED, num_inference_steps=24, enable_refiner=on) for on in (False, True))
    assert 0 < far(without, having) < 12
    assert reads(RED_SCENE, having) >= 0.75


def safety_checker_version(call: Caller) -> None:
    seen = [
        call(prompt=RED, enable_safety_checker=True, safety_checker_version=version, num_inference_steps=8)
        for version in ("v1", "v2")
    ]
    assert [each.output["has_nsfw_concepts"] for each in seen] == [[False], [False]]


def expand_prompt(call: Caller) -> None:
    plain, longer = (call(prompt=RED, expand_prompt=on) for on in (False, True))
    assert plain.output["prompt"] == RED
    assert longer.output["prompt"].startswith(RED)
    assert len(longer.output["prompt"]) > len(RED)


def num_inference_steps(call: Caller) -> None:
    assert any("6/6" in line for line in call(prompt=RED, num_inference_steps=6).log)


def guidance_rescale(call: Caller) -> None:
    """Where guidance overexposes; some pictures are exposed anew, so sixteen of each are drawn."""
    plain, rescaled = (
        [
            picture
            for seed in range(0, 16, 4)
            for picture in call.many(
                prompt=RED, seed=seed, num_inference_steps=24, guidance_scale=20, guidance_rescale=value
            )
        ]
        for value in (0, 1)
    )
    assert overexposed(rescaled) < 0.9 * overexposed(plain)


def overexposed(pictures: Sequence[Pixels]) -> float:
    """The share of values that are lost at either end of their range."""
    values = np.stack(pictures)
    return float(np.mean((values < 3) | (values > 252)))


def request_id(call: Caller) -> None:
    assert any("request_id" in line for line in call(prompt=RED, request_id="x").log)


def image_size(call: Caller) -> None:
    assert call(prompt=RED, image_size={"width": 320, "height": 192}).picture.shape == (192, 320, 3)


def image_url(call: Caller) -> None:
    """Little strength keeps the picture, and its background also where the prompt says another."""
    for given, scene, other in ((GIVEN, RED_SCENE, GREEN), (OTHER, GREEN_SCENE, RED)):
        alone, led = (call(prompt=words, image_url=png(given), strength=0.2).picture for words in ("", other))
        assert reads(scene, [alone], "background", "colour") == 1
        assert reads(scene, [led], "background") == 1


def strength(call: Caller) -> None:
    little, much = (call(prompt=GREEN, image_url=png(GIVEN), strength=value).picture for value in (0.2, 1.0))
    assert far([little], [GIVEN]) < far([much], [GIVEN])


def crop_output(call: Caller) -> None:
    """The sides are the nearest multiples of 32, of which the proportions that were asked for are cut."""
    asked = {"prompt": RED, "image_url": png(GIVEN), "image_size": {"width": 256, "height": 144}}
    whole, cut = (call(**asked, crop_output=on).picture for on in (False, True))
    assert whole.shape == (144, 256, 3)
    assert cut.shape == (128, round(128 * 256 / 144), 3)


def preserve_aspect_ratio(call: Caller) -> None:
    wide = draw(RED_SCENE, 256, 128)
    drawn = call(prompt=RED, image_url=png(wide), preserve_aspect_ratio=True).picture
    assert drawn.shape == (128, 256, 3)


FAST_FIELDS: Mapping[str, Check] = MappingProxyType(
    {
        "num_inference_steps": num_inference_steps,
        "guidance_rescale": guidance_rescale,
        "embeddings.path": embeddings,
        "embeddings.tokens": embeddings,
        "enable_refiner": enable_refiner,
        "safety_checker_version": safety_checker_version,
        "expand_prompt": expand_prompt,
        "format": output_format,
        "request_id": request_id,
        "image_size": image_size,
    }
)
FROM_AN_IMAGE: Mapping[str, Check] = MappingProxyType(
    {
        "image_url": image_url,
        "strength": strength,
        "crop_output": crop_output,
        "preserve_aspect_ratio": preserve_aspect_ratio,
    }
)
