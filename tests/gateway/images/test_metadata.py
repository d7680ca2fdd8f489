"""What pictures say of their making: both schemes, in each format, read by others than who wrote them."""

import json
import re
from dataclasses import replace
from io import BytesIO
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from gateway.images.codec import CONTENT_TYPES, encode_image
from gateway.images.metadata import MAX_BYTES, Making, UsedModel, lora_name, metadata
from gateway.settings import OutputSettings, Scheme
from gateway.work import ImageFormat
from pipelines.performance import MODES, PerformanceName
from pipelines.spec import Guidance, Lora, Refiner, Size, Spec, Start

PIXELS = np.zeros((16, 24, 3), np.uint8)
SECRETS = ("http", "?", "token", "example", "stored:", "/srv")


def making(mode: PerformanceName = "Speed", **changes: Any) -> Making:
    chosen = MODES[mode]
    loras = (Lora(source="https://hub.example/a/ink.safetensors?token=1", scale=0.5), *filter(None, [chosen.lora]))
    spec = Spec(
        prompt="a lighthouse",
        negative_prompt="fog",
        styles=("SAI Anime", "MRE Comic"),
        size=Size(width=64, height=64),
        seeds=(7,),
        steps=chosen.steps,
        sampler=chosen.sampler,
        schedule=chosen.schedule,
        guidance=chosen.guidance(4.0, 2.0),
        loras=loras,
        pictures=(Start(source="stored:/srv/inputs/face.png", strength=0.5),),
    ).model_copy(update=changes)
    texts = (spec.prompt, "anime of " + spec.prompt), (spec.negative_prompt,)
    models = UsedModel("ink", "0123456789abcdef"), *(UsedModel("lcm") for _ in loras[1:])
    base = UsedModel("pocket_xl", "fedcba9876543210")
    used = tuple(zip(spec.loras, models, strict=False))
    return Making(spec, (24, 16), 7, *texts, base, used, "1.2.3", spec.styles)


def read(format: ImageFormat, scheme: Scheme, made: Making) -> tuple[str, str]:
    """(content, scheme) as a reader of such files finds them."""
    content = encode_image(PIXELS, format, OutputSettings(), metadata(scheme, made))
    image = Image.open(BytesIO(content))
    assert image.size == (24, 16)
    if format == "png":
        text = cast("PngImageFile", image).text
        return text["parameters"], text["fooocus_scheme"]
    exif = image.getexif()
    assert exif[0x0131] == "Fooocus Serve v1.2.3"
    comment = exif[0x9286]
    if isinstance(comment, bytes):
        assert comment.startswith(b"UNICODE\0")
        comment = comment[8:].decode("utf-16-be")
    note = exif[0x927C]
    return comment, note.decode() if isinstance(note, bytes) else note


@pytest.mark.parametrize("format", CONTENT_TYPES)
def test_a_picture_of_each_format_carries_the_scheme_of_fooocus(format: ImageFormat) -> None:
    content, scheme = read(format, "fooocus", making())
    told = json.loads(content)
    assert scheme == told["metadata_scheme"] == "fooocus"
    assert list(told) == sorted(told)
    assert told == {
        "prompt": "a lighthouse",
        "negative_prompt": "fog",
        "prompt_expansion": "",
        "styles": "['SAI Anime', 'MRE Comic']",
        "performance": "Speed",
        "steps": 30,
        "resolution": "(24, 16)",
        "guidance_scale": 4.0,
        "sharpness": 2.0,
        "adm_guidance": "(1.5, 0.8, 0.3)",
        "base_model": "pocket_xl",
        "base_model_hash": "fedcba9876",
        "refiner_model": "None",
        "refiner_switch": 1.0,
        "sampler": "dpmpp_2m_sde",
        "scheduler": "karras",
        "vae": "Default (model)",
        "seed": "7",
        "lora_combined_1": "ink : 0.5",
        "loras": [["ink", 0.5, "0123456789"]],
        "full_prompt": ["a lighthouse", "anime of a lighthouse"],
        "full_negative_prompt": ["fog"],
        "metadata_scheme": "fooocus",
        "version": "Fooocus Serve v1.2.3",
    }


def test_a_service_that_does_not_know_its_version_names_itself_all_the_same() -> None:
    assert metadata("fooocus", replace(making(), version=None)).software == "Fooocus Serve"


@pytest.mark.parametrize("format", CONTENT_TYPES)
def test_a_picture_of_each_format_carries_the_scheme_of_a1111(format: ImageFormat) -> None:
    content, scheme = read(format, "a1111", making(prompt="ein Löwe\nNegative prompt: 獅子, Steps: 99"))
    positive, negative, labels = content.split("\n")
    assert scheme == "a1111"
    assert positive == ("ein Löwe Negative prompt: 獅子, Steps: 99, anime of ein Löwe Negative prompt: 獅子, Steps: 99")
    assert negative == "Negative prompt: fog"
    found = re.findall(r'([\w ]+): ("(?:\\.|[^"\\])*"|[^,]*)(?:, |$)', labels)
    told = {label: json.loads(value) if value.startswith('"') else value for label, value in found}
    assert told == {
        "Steps": "30",
        "Sampler": "DPM++ 2M SDE Karras",
        "Seed": "7",
        "Size": "24x16",
        "CFG scale": "4.0",
        "Sharpness": "2.0",
        "ADM Guidance": "(1.5, 0.8, 0.3)",
        "Model": "pocket_xl",
        "Model hash": "fedcba9876",
        "Performance": "Speed",
        "Scheduler": "karras",
        "VAE": "Default (model)",
        "Raw prompt": "ein Löwe\nNegative prompt: 獅子, Steps: 99",
        "Raw negative prompt": "fog",
        "Lora hashes": "ink: 0123456789",
        "Lora weights": "ink: 0.5",
        "Version": "Fooocus Serve v1.2.3",
    }


def test_a_refined_and_expanded_picture_tells_both() -> None:
    made = making(refiner=Refiner(switch=0.4, method="separate"), expand_prompt=True)
    made = replace(made, refiner=UsedModel("pocket_refiner", "abcdef0123456789"))
    told = json.loads(metadata("fooocus", made).content)
    assert told["styles"] == "['Fooocus V2', 'SAI Anime', 'MRE Comic']"
    assert (told["refiner_model"], told["refiner_model_hash"]) == ("pocket_refiner", "abcdef0123")
    assert (told["refiner_switch"], told["refiner_swap_method"]) == (0.4, "separate")
    labels = "Refiner: pocket_refiner, Refiner hash: abcdef0123, Refiner Swap Method: separate, Lora hashes"
    assert labels in metadata("a1111", made).content


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_goes_by_its_name_and_its_lora_with_it(mode: PerformanceName) -> None:
    told = json.loads(metadata("fooocus", making(mode)).content)
    assert told["performance"] == mode
    assert [name for name, _, _ in told["loras"]] == ["ink"]


def test_steps_of_no_mode_are_told_with_the_lora_that_made_them_few() -> None:
    told = json.loads(metadata("fooocus", making("Extreme Speed", steps=5)).content)
    assert "performance" not in told
    assert told["lora_combined_2"] == "lcm : 1.0"
    assert told["guidance_scale"] == 1.0


@pytest.mark.parametrize("scheme", ["fooocus", "a1111"])
def test_no_address_key_or_path_is_in_it(scheme: Scheme) -> None:
    content = metadata(scheme, making()).content
    assert [each for each in SECRETS if each in content] == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("pocket_outlines.safetensors", "pocket_outlines"),
        ("owner/repo", "repo"),
        ("https://hub.example/x/ink%20wash.safetensors?token=secret#part", "ink wash"),
        ("https://user:secret@hub.example/a/b.safetensors", "b"),
        ("/srv/loras/own.safetensors", "own"),
        ("../../own.safetensors", "own"),
        ("stored:uploads/secret.safetensors", "lora"),
        ("https://images.example/files/uploads/secret/ink.safetensors", "lora"),
        ("data:application/octet-stream;base64,c2VjcmV0", "lora"),
        ("https://hub.example/", "lora"),
        ("https://[half", "lora"),
        ("https://hub.example/" + "x" * 200, "lora"),
        ("https://hub.example/%0aSteps:%201", "lora"),
    ],
)
def test_a_lora_goes_by_the_end_of_its_address(source: str, name: str) -> None:
    assert lora_name(source) == name


@pytest.mark.parametrize("scheme", ["fooocus", "a1111"])
@pytest.mark.parametrize("letter", ["x", "獅", "\0", "\ud800", "\U0001f981"])
def test_the_longest_prompts_fit_into_each_format(scheme: Scheme, letter: str) -> None:
    long = letter * 200_000
    made = making(prompt=long, negative_prompt=long, guidance=Guidance(scale=2.0))
    assert len(metadata(scheme, made).content.encode("utf-16")) <= MAX_BYTES
    for format in CONTENT_TYPES:
        content, _ = read(format, scheme, made)
        assert content
