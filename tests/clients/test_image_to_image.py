"""The second source example, by the new JavaScript client: a photograph drawn over, at its own aspect."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from tests.clients.conftest import PHOTOGRAPHS, Drive, PhotographServer
from tests.clients.outputs import assert_fast_output, picture

pytestmark = [pytest.mark.clients, pytest.mark.cluster]

ENDPOINT = "fal-ai/fast-fooocus-sdxl/image-to-image"


@pytest.mark.parametrize(
    ("photograph", "size", "steps"),
    [
        ("chelsea.png", (448, 296), 8),  # 451 x 300: floored to multiples of 8
        ("retina.jpg", (1024, 1024), 1),  # 1411 x 1411: scaled down to 1,048,576 pixels
    ],
)
def test_the_output_keeps_the_aspect_of_a_photograph_by_address(
    drive: Drive,
    photographs: PhotographServer,
    took: Callable[[str, float], None],
    photograph: str,
    size: tuple[int, int],
    steps: int,
) -> None:
    began = time.perf_counter()
    done = drive(
        "new",
        "middleware",
        "subscribe",
        ENDPOINT,
        {"prompt": "a cat", "image_url": photographs.url(photograph), "seed": 11, "num_inference_steps": steps},
    )
    seconds = time.perf_counter() - began
    took(f"image-to-image, {size[0]}x{size[1]}, {steps} steps, photograph by address, JavaScript", seconds)
    assert photographs.fetched == [photograph]
    assert_fast_output(done["output"], size, 11, "a cat")
    assert done["requestId"]
    assert done["logs"]
    assert seconds < 60


def test_the_picture_is_drawn_over_the_photograph(drive: Drive, photographs: PhotographServer) -> None:
    """Luminance follows the photograph, the less the higher the strength.

    Without the pocket's refiner and expansion, which know no photographs.
    """
    with Image.open(PHOTOGRAPHS / "astronaut.png") as original:
        given = np.asarray(original.convert("L")).ravel()
    likeness = []
    for strength in (0.3, 0.6, 0.95):
        request = {"prompt": "a portrait", "image_url": photographs.url("astronaut.png"), "seed": 11}
        request |= {"enable_refiner": False, "expand_prompt": False}
        done = drive("old", "middleware", "subscribe", ENDPOINT, {**request, "strength": strength})
        drawn = np.asarray(picture(done["output"]["images"][0]).convert("L")).ravel()
        likeness.append(np.corrcoef(drawn, given)[0, 1])
    assert likeness[0] > 0.5
    assert likeness[0] > likeness[1] > likeness[2]
