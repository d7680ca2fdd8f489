"""Pictures that come with a request: as a data URI, and by an address on loopback."""

import base64

import httpx2
import numpy as np
import pytest

from tests.integration.calls import FAST_IMAGE_TO_IMAGE, FOOOCUS, content, pixels, result, run, submit, wait_for
from tests.integration.conftest import files_on_loopback

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
    submitted = submit(client, "fal-ai/fooocus/upscale-or-vary", {**asked, "output_format": "png"})
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
