"""Pictures that come with a request: as a data URI, and by an address on loopback."""

import base64
import queue
from dataclasses import replace
from typing import Any

import httpx2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from benchmarks.pocket.world.drawing import Pixels, draw
from benchmarks.pocket.world.scenes import Scene, Thing
from gateway.endpoints import ENDPOINTS
from pipelines.images.face import FaceFinder
from pipelines.images.resize import stretch
from pipelines.preparing import SEEN
from pipelines.weights.family import Family
from tests.detector import DETECTOR, needs_detector
from tests.integration.calls import (
    FAST_IMAGE_TO_IMAGE,
    FOOOCUS,
    IMAGE_PROMPT,
    INPAINT,
    UPSCALE_OR_VARY,
    content,
    pixels,
    png,
    result,
    run,
    submit,
    wait_for,
)
from tests.integration.conftest import files_on_loopback
from tests.pipelines.studio import Studio, last

pytestmark = pytest.mark.cluster

INPUT = {"prompt": "a rocket", "seed": 4, "num_inference_steps": 4, "format": "png"}


def data_uri(photograph: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(photograph).decode()


def test_a_photograph_by_address_and_inline_give_the_same_picture(client: httpx2.Client, photograph: bytes) -> None:
    with files_on_loopback({"photo.jpg": photograph}) as (address, asked):
        fetched = run(client, FAST_IMAGE_TO_IMAGE, {**INPUT, "image_url": f"{address}/photo.jpg"})
    assert asked == ["/photo.jpg"]
    inline = run(client, FAST_IMAGE_TO_IMAGE, {**INPUT, "image_url": data_uri(photograph)})
    assert content(client, fetched) == content(client, inline)
    assert (fetched["images"][0]["width"], fetched["images"][0]["height"]) == (640, 424)


def test_a_picture_drawn_from_a_photograph_follows_it_less_the_stronger(
    client: httpx2.Client, photograph: bytes
) -> None:
    source = pixels(photograph)[:424, :640]
    correlations = []
    for strength in (0.3, 0.6, 0.95):
        output = run(client, FAST_IMAGE_TO_IMAGE, {**INPUT, "image_url": data_uri(photograph), "strength": strength})
        drawn = pixels(content(client, output))
        correlations.append(float(np.corrcoef(drawn.mean(-1).ravel(), source.mean(-1).ravel())[0, 1]))
    assert correlations[0] > 0.3
    assert correlations == sorted(correlations, reverse=True)


@pytest.mark.parametrize("kind", ["PyraCanny", "CPDS"])
def test_a_control_image_changes_the_picture(client: httpx2.Client, photograph: bytes, kind: str) -> None:
    plain = {"prompt": "a rocket", "seed": 4, "aspect_ratio": "256x256", "performance": "Lightning"}
    control = {"control_type": kind, "control_image_url": data_uri(photograph)}
    control |= {"control_image_weight": 1, "control_image_stop_at": 1}
    without = pixels(content(client, run(client, FOOOCUS, {**plain, "output_format": "png"})))
    guided = pixels(content(client, run(client, FOOOCUS, {**plain, **control, "output_format": "png"})))
    assert np.abs(without - guided).mean() > 0.5


def test_a_photograph_is_enlarged_without_being_drawn(client: httpx2.Client, photograph: bytes) -> None:
    """One picture whatever the number is; its tiles are its steps, and it is checked and stored as any other."""
    asked = {"uov_image_url": data_uri(photograph), "uov_method": "Upscale (Fast 2x)", "num_images": 3}
    submitted = submit(client, UPSCALE_OR_VARY, {**asked, "output_format": "png"})
    logs = wait_for(client, submitted, "COMPLETED")["logs"]
    output = result(client, submitted).json()
    assert [(each["width"], each["height"]) for each in output["images"]] == [(1280, 854)]
    assert output["has_nsfw_concepts"] == [False]
    assert "upscale" in output["timings"]
    assert "denoise" not in output["timings"]
    assert any("2/2" in each["message"] for each in logs)
    given, enlarged = pixels(photograph), pixels(content(client, output))
    shrunk = enlarged.reshape(427, 2, 640, 2, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - given).mean() < 8


HOLE = {"prompt": "a green star on a blue background", "performance": "Lightning", "seed": 4, "output_format": "png"}
BLUE = draw(Scene((Thing("circle", "red", "big", "centre"),), "blue"), 256, 256)


def marked(side: int, part: slice) -> Pixels:
    mask = np.zeros((side, side), np.uint8)
    mask[part, part] = 255
    return mask


MASK = marked(256, slice(64, 192))


@pytest.mark.long
def test_a_part_of_a_picture_is_drawn_anew_and_the_rest_stays(client: httpx2.Client) -> None:
    """The mask comes at its size, at half of it, and as transparency, which lies on white; on two endpoints."""
    clear = Image.fromarray(np.zeros((256, 256, 4), np.uint8) + np.array([0, 0, 0, 255], np.uint8))
    clear.putalpha(Image.fromarray(255 - MASK))
    asked = {**HOLE, "inpaint_image_url": png(BLUE)}
    first = content(client, run(client, INPAINT, {**asked, "mask_image_url": png(MASK)}))
    drawn = pixels(first)
    assert drawn.shape == (256, 256, 3)
    near = slice(32, 224)
    far = np.ones((256, 256), bool)
    far[near, near] = False
    np.testing.assert_array_equal(drawn[far], BLUE[far])
    assert np.abs(drawn[96:160, 96:160] - BLUE[96:160, 96:160]).mean() > 20
    for mask, endpoint in ((marked(128, slice(32, 96)), INPAINT), (clear, INPAINT), (MASK, FOOOCUS)):
        again = pixels(content(client, run(client, endpoint, {**asked, "mask_image_url": png(mask)})))
        assert np.abs(again - drawn).mean() < 2


@pytest.mark.long
def test_a_mask_that_marks_nothing_leaves_the_prompt_alone_and_a_full_one_everything(client: httpx2.Client) -> None:
    asked = {**HOLE, "aspect_ratio": "256x256", "inpaint_image_url": png(BLUE)}
    prompt = {name: value for name, value in asked.items() if name != "inpaint_image_url"}
    plain = content(client, run(client, FOOOCUS, prompt))
    for mask in ({}, {"mask_image_url": png(np.zeros_like(BLUE))}):
        assert content(client, run(client, INPAINT, {**asked, **mask})) == plain
    inverted = {"mask_image_url": png(np.zeros_like(BLUE)), "invert_mask": True}
    for everything in ({"mask_image_url": png(np.full_like(BLUE, 255))}, inverted):
        drawn = content(client, run(client, INPAINT, {**asked, **everything}))
        assert drawn != plain
        assert pixels(drawn).shape == (256, 256, 3)


@needs_detector
def test_the_face_alone_of_a_photograph_is_what_the_tower_sees(client: httpx2.Client, pocket_family: Family) -> None:
    """The picture is the one that is drawn here from the crop, and not the one from all of the photograph."""
    photograph = skimage.data.astronaut()
    face = {"type": "FaceSwap", "image_url": png(photograph), "weight": 1.0, "stop_at": 1.0}
    asked = {"prompt": "", "seed": 4, "aspect_ratio": "256x256", "performance": "Lightning", "image_prompt_1": face}
    asked |= {"styles": [], "loras": [], "enable_safety_checker": False, "output_format": "png"}
    drawn = pixels(content(client, run(client, IMAGE_PROMPT, asked)))
    studio = Studio(pocket_family)
    try:
        spec = ENDPOINTS[IMAGE_PROMPT].order(asked, "id", "http://host").work.spec
        whole = studio.inputs(spec, [photograph])
        (look,) = whole.references
        crop = FaceFinder(DETECTOR).crop(photograph)
        assert crop is not None
        cropped = replace(whole, references=(replace(look, pixels=stretch(crop, SEEN)),))
        events: dict[str, queue.Queue[Any]] = {"whole": queue.Queue(), "cropped": queue.Queue()}
        for name, inputs in (("whole", whole), ("cropped", cropped)):
            studio.drawer.submit(name, spec, inputs, events[name].put)
        (from_all,), (from_the_face,) = (last(each).images for each in events.values())
    finally:
        studio.drawer.close()
    assert np.abs(drawn - from_the_face).max() <= 1
    assert np.abs(drawn - from_all).mean() > 0.5
