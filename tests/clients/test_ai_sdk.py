"""`@ai-sdk/fal` as an application has it: pictures as bytes, which it fetches without a key, and errors as its own."""

import base64
import io
import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.clients.conftest import HERE, PHOTOGRAPHS
from tests.kills.service import Served
from tests.pages import ADDRESS, blocks, page

pytestmark = [pytest.mark.clients, pytest.mark.cluster]

FAST = "fal-ai/fast-fooocus-sdxl"
FOOOCUS = "fal-ai/fooocus"
QUICK = {"prompt": "a red circle", "size": "512x256", "seed": 7}

Generate = Callable[..., dict[str, Any]]
RunNode = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def key(create: Callable[..., str]) -> str:
    return create()


@pytest.fixture
def generate(lasting: Served, key: str, run_node: RunNode) -> Generate:
    """What an application gets of `generateImage`. keyed: its pictures are fetched with the key."""

    def generate(model: str, asked: Mapping[str, Any], *, keyed: bool = True, credentials: str = key) -> dict[str, Any]:
        story = {"base": lasting.address, "key": credentials, "model": model, "keyed": keyed, "asked": asked}
        done = run_node(HERE / "ai_sdk.mjs", stdin=json.dumps(story))
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    return generate


def fal(**options: Any) -> dict[str, Any]:
    return {"providerOptions": {"fal": options}}


def opened(image: Mapping[str, str]) -> Image.Image:
    with Image.open(io.BytesIO(base64.b64decode(image["base64"]))) as found:
        found.load()
        assert found.format == "JPEG"
    assert image["mediaType"] == "image/jpeg"
    return found


def test_size_and_seed_act_and_what_is_told_of_a_picture_is_handed_on(generate: Generate) -> None:
    first, again, other = (generate(FAST, {**QUICK, "seed": seed}) for seed in (7, 7, 8))
    (image,) = first["images"]
    assert opened(image).size == (512, 256)
    assert again["images"] == first["images"] != other["images"]
    assert first["warnings"] == []
    (told,) = first["metadata"]["images"]
    assert (told["width"], told["height"], told["contentType"], told["nsfw"]) == (512, 256, "image/jpeg", False)
    assert told["fileSize"] == len(base64.b64decode(image["base64"]))


def test_fooocus_is_given_its_own_fields_as_options(generate: Generate) -> None:
    found = generate(FOOOCUS, {"prompt": "a red circle", "seed": 7, **fal(aspect_ratio="704x1408")})
    assert opened(found["images"][0]).size == (704, 1408)
    assert "unknown:image_size" not in found["headers"].get("x-fooocus-inactive", "")
    found = generate(FOOOCUS, {**QUICK, **fal(aspect_ratio="704x1408")})
    assert opened(found["images"][0]).size == (704, 1408)
    assert "unknown:image_size" in found["headers"]["x-fooocus-inactive"]


def test_only_the_names_that_it_knows_are_sent_in_snake_case(generate: Generate) -> None:
    found = generate(FAST, {**QUICK, **fal(numInferenceSteps=2, numImages=2)})
    assert len(found["images"]) == 1
    assert found["headers"]["x-fooocus-inactive"] == "unknown:numImages"


def test_several_pictures_of_one_request_are_asked_for_by_option(generate: Generate) -> None:
    found = generate(FAST, {**QUICK, **fal(num_images=2)})
    assert len({image["base64"] for image in found["images"]}) == 2
    assert len(found["metadata"]["images"]) == 2


def test_a_picture_of_the_application_is_the_input(generate: Generate) -> None:
    photograph = base64.b64encode((PHOTOGRAPHS / "rocket.jpg").read_bytes()).decode()
    asked = {"prompt": {"text": "a lake", "images": [photograph]}, **fal(strength=0.5, numInferenceSteps=2)}
    assert opened(generate(f"{FAST}/image-to-image", asked)["images"][0]).size == (640, 424)


def test_it_sends_no_key_for_a_picture_unless_it_is_told_to(generate: Generate) -> None:
    refused = generate(FAST, QUICK, keyed=False)
    assert refused["downloads"] == [{"to": "http", "keyed": False}]
    assert (refused["error"]["name"], refused["error"]["statusCode"]) == ("AI_APICallError", 404)
    found = generate(FAST, QUICK, keyed=True)
    assert found["downloads"] == [{"to": "http", "keyed": True}]
    opened(found["images"][0])


def test_with_sync_mode_the_bytes_come_with_the_answer(generate: Generate) -> None:
    found = generate(FOOOCUS, {"prompt": "a red circle", **fal(aspect_ratio="512x256", syncMode=True)}, keyed=False)
    assert found["downloads"] == [{"to": "data", "keyed": False}]
    assert opened(found["images"][0]).size == (512, 256)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (FAST, {"numInferenceSteps": 25}, "body.num_inference_steps: Input should be less than or equal to 24"),
        # the client knows no numbers in `loc`, and takes `message`
        (FOOOCUS, {"loras": [{"path": "a", "scale": "much"}]}, "Input should be a valid number"),
    ],
)
def test_a_fault_of_the_input_is_its_error_with_our_words(
    generate: Generate, model: str, options: dict[str, Any], message: str
) -> None:
    error = generate(model, {**QUICK, **fal(**options)})["error"]
    assert (error["name"], error["statusCode"], error["isRetryable"]) == ("AI_APICallError", 422, False)
    assert error["message"].startswith(message)


@pytest.mark.parametrize(
    ("model", "credentials", "status", "message"),
    [(FAST, "any:key", 401, "The API key is not valid."), ("fal-ai/flux/dev", None, 404, "flux")],
)
def test_other_faults_are_its_error_too(
    generate: Generate, key: str, model: str, credentials: str | None, status: int, message: str
) -> None:
    error = generate(model, QUICK, credentials=credentials or key)["error"]
    assert (error["name"], error["statusCode"], error["isRetryable"]) == ("AI_APICallError", status, False)
    assert message in error["message"]


def test_the_program_of_the_page(base: str, run_node: RunNode, tmp_path: Path) -> None:
    assert_drawn(_program(0), base, run_node, tmp_path)


def test_the_program_of_the_page_where_files_are_kept_to_their_keys(
    lasting: Served, key: str, run_node: RunNode, tmp_path: Path
) -> None:
    source = _program(1)
    assert source.count("any:key") == 1
    assert_drawn(source.replace("any:key", key), lasting.address, run_node, tmp_path)


def _program(number: int) -> str:
    return [block for block in blocks(page("docs/clients.md"), "js") if "@ai-sdk/fal" in block][number]


def assert_drawn(source: str, address: str, run_node: RunNode, folder: Path) -> None:
    assert source.count(ADDRESS) == 1
    (folder / "app.mjs").write_text(source.replace(ADDRESS, address), encoding="utf-8")
    (folder / "node_modules").symlink_to(HERE / "node_modules")
    done = run_node(folder / "app.mjs")
    assert done.returncode == 0, done.stderr
    with Image.open(folder / "cube.jpg") as found:
        assert (found.format, found.size) == ("JPEG", (512, 512))
    assert done.stdout.strip() == "image/jpeg 512"
