"""What a client of the integration tests does: run, submit, follow, take the result, look at the picture."""

import base64
import io
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt
from PIL import Image

FAST = "fal-ai/fast-fooocus-sdxl"
FAST_IMAGE_TO_IMAGE = "fal-ai/fast-fooocus-sdxl/image-to-image"
FOOOCUS = "fal-ai/fooocus"
INPAINT = "fal-ai/fooocus/inpaint"
IMAGE_PROMPT = "fal-ai/fooocus/image-prompt"
UPSCALE_OR_VARY = "fal-ai/fooocus/upscale-or-vary"
SMALL: Mapping[str, Any] = {
    "prompt": "a red cube on a table",
    "image_size": {"width": 256, "height": 256},
    "num_inference_steps": 4,
    "expand_prompt": False,
    "format": "png",
}
# some ten seconds of drawing on two cores
LONG: Mapping[str, Any] = {
    "prompt": "a slow one",
    "image_size": "square_hd",
    "num_inference_steps": 24,
    "num_images": 8,
}
PATIENCE_S = 60.0

Json = dict[str, Any]


def run(client: httpx2.Client, endpoint: str, input: Mapping[str, Any]) -> Json:
    """The output of a sync run."""
    answer = client.post(f"/{endpoint}", json=input)
    assert answer.status_code == 200, answer.text
    output: Json = answer.json()
    return output


def submit(client: httpx2.Client, endpoint: str, input: Mapping[str, Any]) -> Json:
    """The answer to a submit, with the addresses of the request."""
    answer = client.post(f"/queue/{endpoint}", json=input)
    assert answer.status_code == 200, answer.text
    submitted: Json = answer.json()
    return submitted


def status(client: httpx2.Client, submitted: Json) -> Json:
    """Status with logs."""
    answer = client.get(submitted["status_url"], params={"logs": 1})
    assert answer.status_code in (200, 202), answer.text
    found: Json = answer.json()
    return found


def wait_for(client: httpx2.Client, submitted: Json, state: str, patience_s: float = PATIENCE_S) -> Json:
    """The first status that has reached `state`."""
    found: Json = {}

    def reached() -> bool:
        nonlocal found
        found = status(client, submitted)
        assert found["status"] == state or found["status"] != "COMPLETED", found
        return bool(found["status"] == state)

    wait_until(reached, f"the request to be {state}", patience_s)
    return found


def result(client: httpx2.Client, submitted: Json) -> httpx2.Response:
    """The answer of a request, after its end."""
    wait_for(client, submitted, "COMPLETED")
    return client.get(submitted["response_url"])


def content(client: httpx2.Client, output: Json) -> bytes:
    """The bytes of an output's only picture."""
    (image,) = output["images"]
    answer = client.get(image["url"])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == image["content_type"]
    assert len(answer.content) == image["file_size"]
    return answer.content


def pixels(encoded: bytes) -> npt.NDArray[np.int16]:
    """(height, width, 3), signed so that differences are."""
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int16)


def png(picture: npt.NDArray[np.uint8] | Image.Image) -> str:
    """A picture as a data URI."""
    file = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def wait_until(true: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s for {what}"
        time.sleep(0.05)
