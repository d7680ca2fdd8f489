"""What pictures say of their making is found again. The module that reads it is run by node."""

from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from gateway.images.codec import CONTENT_TYPES, encode_image
from gateway.images.metadata import UsedModel, metadata
from gateway.settings import OutputSettings
from gateway.work import ImageFormat
from pipelines.spec import Refiner
from tests.gateway.images.test_metadata import PIXELS, making
from tests.gateway.playground.by_node import by_node

PROMPT = 'ein Löwe, "獅子"\nNegative prompt: Steps: 99'


def read(content: bytes) -> Any:
    return by_node("metadata.mjs", content)


@pytest.mark.parametrize("format", CONTENT_TYPES)
@pytest.mark.parametrize("prompt", ["a lighthouse", PROMPT])
def test_settings_in_fooocus_scheme_are_found_in_each_format(format: ImageFormat, prompt: str) -> None:
    made = making(prompt=prompt)
    assert read(encode_image(PIXELS, format, OutputSettings(), metadata("fooocus", made))) == {
        "prompt": prompt,
        "negative_prompt": "fog",
        "styles": ["SAI Anime", "MRE Comic"],
        "performance": "Speed",
        "size": [24, 16],
        "steps": 30,
        "guidance_scale": 4.0,
        "sharpness": 2.0,
        "refiner_model": "None",
        "seed": "7",
        "loras": [{"path": "ink", "scale": 0.5}],
    }


@pytest.mark.parametrize("format", CONTENT_TYPES)
def test_settings_in_a1111s_scheme_are_found_in_each_format(format: ImageFormat) -> None:
    content = encode_image(PIXELS, format, OutputSettings(), metadata("a1111", making(prompt=PROMPT)))
    assert read(content) == {
        "prompt": PROMPT,
        "negative_prompt": "fog",
        "performance": "Speed",
        "size": [24, 16],
        "steps": 30,
        "guidance_scale": 4.0,
        "sharpness": 2.0,
        "seed": "7",
        "refiner_model": "None",
    }


def test_a_refiner_is_told_with_its_switch() -> None:
    made = replace(making(refiner=Refiner(switch=0.6)), refiner=UsedModel("small"))
    told = read(encode_image(PIXELS, "png", OutputSettings(), metadata("fooocus", made)))
    assert (told["refiner_model"], told["refiner_switch"]) == ("small", 0.6)


def test_a_lora_that_the_prompt_names_is_not_taken_twice() -> None:
    made = making(prompt="a lighthouse <lora:ink:0.5>")
    assert read(encode_image(PIXELS, "png", OutputSettings(), metadata("fooocus", made)))["loras"] == []


@pytest.mark.parametrize("format", CONTENT_TYPES)
def test_a_picture_without_metadata_says_nothing(format: ImageFormat) -> None:
    assert read(encode_image(PIXELS, format, OutputSettings())) is None


def saying(parameters: str) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", parameters)
    file = BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG", pnginfo=text)
    return file.getvalue()


def test_what_others_write_is_no_setting() -> None:
    content = saying("something else")
    assert read(content) is None
    assert read(content[:40]) is None


def test_what_is_no_setting_is_passed_over() -> None:
    told = read(saying('a lighthouse\nSteps: 30, one, Hires-fix: "a, Seed: 8", Size: 1, two,three, Seed: 7'))
    assert (told["steps"], told["seed"]) == (30, "7")


def test_a_text_longer_than_any_settings_is_not_read() -> None:
    assert read(saying("a lighthouse\nSteps: 1, " + 500_000 * "a")) is None
