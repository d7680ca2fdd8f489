"""The first source example, by the Python client: a picture drawn along the edges of a photograph."""

import io
import time
from collections.abc import Callable
from typing import Any

import fal_client
import pytest
from PIL import Image

from tests.clients.conftest import PHOTOGRAPHS, PhotographServer
from tests.clients.outputs import assert_fooocus_output, download
from tests.detector import DETECTOR

pytestmark = [pytest.mark.clients, pytest.mark.cluster]

ENDPOINT = "fal-ai/fooocus/image-prompt"


def draw(image_url: str, aspect_ratio: str, **prompts: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Along the edges of a photograph. prompts: others beside it or in its place."""
    logs: list[str] = []

    def on_queue_update(update: fal_client.Status) -> None:
        if isinstance(update, fal_client.InProgress | fal_client.Completed):
            logs[:] = [log["message"] for log in update.logs or []]

    output = fal_client.subscribe(
        ENDPOINT,
        arguments={
            "prompt": "an astronaut in a red suit",
            "image_prompt_1": {"type": "PyraCanny", "image_url": image_url, "weight": 1, "stop_at": 1},
            "seed": 176400,
            "aspect_ratio": aspect_ratio,
            **prompts,
        },
        with_logs=True,
        on_queue_update=on_queue_update,
    )
    return output, logs


def test_a_photograph_by_address(base: str, photographs: PhotographServer, took: Callable[[str, float], None]) -> None:
    began = time.perf_counter()
    output, logs = draw(photographs.url("astronaut.png"), "1024x1024")
    seconds = time.perf_counter() - began
    took("image-prompt, 1024x1024, photograph by address, Python", seconds)
    assert photographs.fetched == ["astronaut.png"]
    assert_fooocus_output(output, (1024, 1024))
    assert logs
    assert seconds < 60


def test_the_same_photograph_as_address_and_as_data_uri(base: str, photographs: PhotographServer) -> None:
    by_address, _ = draw(photographs.url("astronaut.png"), "256x256")
    by_data_uri, _ = draw(fal_client.encode_file(PHOTOGRAPHS / "astronaut.png"), "256x256")
    another, _ = draw(photographs.url("coffee.png"), "256x256")
    assert download(by_data_uri["images"][0]) == download(by_address["images"][0])
    assert download(another["images"][0]) != download(by_address["images"][0])


def test_a_photograph_is_varied(base: str, photographs: PhotographServer) -> None:
    """A small one, which comes out at 1024 x 1024; image prompts beside it act where they are mixed."""
    edges = {"type": "PyraCanny", "image_url": photographs.url("coffee.png"), "weight": 1, "stop_at": 1}
    asked = {
        "prompt": "a portrait",
        "uov_image_url": photographs.url("astronaut.png"),
        "uov_method": "Vary (Subtle)",
        "performance": "Lightning",
        "seed": 5,
        "image_prompt_1": edges,
    }
    plain, mixed = (
        fal_client.subscribe(
            "fal-ai/fooocus/upscale-or-vary", arguments={**asked, "mixing_image_prompt_and_vary_upscale": mixing}
        )
        for mixing in (False, True)
    )
    assert_fooocus_output(plain, (1024, 1024))
    assert_fooocus_output(mixed, (1024, 1024))
    assert photographs.fetched.count("coffee.png") == 1
    assert download(plain["images"][0]) != download(mixed["images"][0])


def test_a_part_of_a_photograph_is_drawn_anew(base: str, photographs: PhotographServer) -> None:
    """The right half, where the mask is white; what is far from it comes back as it was."""
    photograph = Image.open(PHOTOGRAPHS / "astronaut.png").convert("RGB")
    mask = Image.new("L", photograph.size)
    mask.paste(255, (photograph.width // 2, 0, *photograph.size))
    output = fal_client.subscribe(
        "fal-ai/fooocus/inpaint",
        arguments={
            "prompt": "a red circle",
            "inpaint_image_url": photographs.url("astronaut.png"),
            "mask_image_url": fal_client.encode_image(mask, "png"),
            "performance": "Lightning",
            "output_format": "png",
            "seed": 176400,
        },
    )
    (image,) = output["images"]
    assert (image["width"], image["height"], image["content_type"]) == (*photograph.size, "image/png")
    drawn = Image.open(io.BytesIO(download(image))).convert("RGB")
    kept = (0, 0, photograph.width // 2 - 32, photograph.height)
    assert drawn.crop(kept).tobytes() == photograph.crop(kept).tobytes()
    assert drawn.tobytes() != photograph.tobytes()


def test_four_types_at_once_and_the_log_says_what_was_made_of_a_face(base: str, photographs: PhotographServer) -> None:
    """With a detector it tells only of a picture without a face; without a detector, of any."""
    coffee, astronaut = photographs.url("coffee.png"), photographs.url("astronaut.png")
    face = {"type": "FaceSwap", "image_url": astronaut, "weight": 0.5, "stop_at": 0.9}
    others = {
        "image_prompt_2": {"image_url": coffee, "weight": 0.6},
        "image_prompt_3": face,
        "image_prompt_4": {"type": "CPDS", "image_url": coffee, "weight": 0.5},
    }
    edges, _ = draw(astronaut, "256x256")
    output, logs = draw(astronaut, "256x256", **others)
    assert_fooocus_output(output, (256, 256))
    assert download(output["images"][0]) != download(edges["images"][0])
    _, faceless = draw(astronaut, "256x256", image_prompt_3={**face, "image_url": coffee})
    told, of_faceless = (
        [line.split(": ")[1] for line in each if line.startswith("image_prompt_3.image_url: ")]
        for each in (logs, faceless)
    )
    if DETECTOR.is_file():
        assert told == []
        assert [line[:17] for line in of_faceless] == ["no face was found"]
    else:
        assert told == of_faceless
        assert [line[:16] for line in told] == ["no face detector"]
