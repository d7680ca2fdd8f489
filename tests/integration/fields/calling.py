"""A caller of one endpoint, and the measures by which its pictures are told apart."""

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import httpx2
import numpy as np
from PIL import Image

from benchmarks.pocket.world.drawing import Pixels, draw
from benchmarks.pocket.world.exam import accuracy
from benchmarks.pocket.world.scenes import Scene, Thing
from gateway.endpoints.base import Family
from tests.integration.calls import Json, result, submit, wait_for

RED = "a big red circle in the centre, blue background"
GREEN = "a big green square in the centre, yellow background"
RED_SCENE = Scene((Thing("circle", "red", "big", "centre"),), "blue")
GREEN_SCENE = Scene((Thing("square", "green", "big", "centre"),), "yellow")
BLANK = draw(Scene((), "blue"), 256, 256)
GIVEN = draw(RED_SCENE, 256, 256)
OTHER = draw(GREEN_SCENE, 256, 256)
PATIENCE_S = 300.0  # for pictures of over 1024 x 1024 on a busy machine
PLAIN: Mapping[Family, Mapping[str, Any]] = MappingProxyType(
    {
        "fooocus": {
            "styles": [],
            "loras": [],
            "performance": "Lightning",
            "aspect_ratio": "256x256",
            "output_format": "png",
            "enable_safety_checker": False,
            "seed": 3,
        },
        "fast": {
            "image_size": {"width": 256, "height": 256},
            "format": "png",
            "enable_safety_checker": False,
            "enable_refiner": False,
            "expand_prompt": False,
            "seed": 3,
        },
    }
)
GUIDED: Mapping[Family, Mapping[str, Any]] = MappingProxyType(
    {"fooocus": {"performance": "Speed"}, "fast": {"num_inference_steps": 8}}
)
HOLE = np.zeros((256, 256, 3), np.uint8)
HOLE[64:192, 64:192] = 255


@dataclass(frozen=True)
class Drawn:
    """The answer to a request, its pictures, and the lines of its log."""

    output: Json
    pictures: list[Pixels]
    log: list[str]

    @property
    def picture(self) -> Pixels:
        return self.pictures[0]


@dataclass(frozen=True)
class Caller:
    """Draws at one endpoint. given: what this endpoint needs so that other fields act as at all of them."""

    client: httpx2.Client
    endpoint: str
    family: Family
    given: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, **fields: Any) -> Drawn:
        submitted = submit(self.client, self.endpoint, {**PLAIN[self.family], **self.given, **fields})
        state = wait_for(self.client, submitted, "COMPLETED", PATIENCE_S)
        answer = result(self.client, submitted)
        assert answer.status_code == 200, answer.text
        output: Json = answer.json()
        log = [each["message"] for each in state["logs"] or ()]
        contents = [self._content(each["url"]) for each in output["images"]]
        return Drawn(output, [*map(decoded, contents)], log)

    def _content(self, url: str) -> bytes:
        if url.startswith("data:"):
            return base64.b64decode(url.partition(",")[2])
        answer = self.client.get(url)
        assert answer.status_code == 200
        return answer.content

    def many(self, **fields: Any) -> list[Pixels]:
        return self(**{"num_images": 4, **fields}).pictures


Check = Callable[[Caller], None]


def decoded(content: bytes) -> Pixels:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def mean_colour(pictures: Sequence[Pixels]) -> Any:
    return np.mean([picture.reshape(-1, 3).mean(axis=0) for picture in pictures], axis=0)


def far(one: Sequence[Pixels], other: Sequence[Pixels]) -> float:
    """Mean levels between pictures."""
    return float(np.mean([np.abs(a.astype(float) - b).mean() for a, b in zip(one, other, strict=True)]))


def texture(pictures: Sequence[Pixels]) -> float:
    """Mean step between neighbouring pixels."""
    return float(np.mean([np.abs(np.diff(picture.astype(float), axis=1)).mean() for picture in pictures]))


def grain(pictures: Sequence[Pixels]) -> float:
    """Deviation of what should be plain: the corners."""
    return float(np.mean([picture[:48, :48].reshape(-1, 3).std(axis=0).mean() for picture in pictures]))


def reads(scene: Scene, pictures: Sequence[Pixels], *aspects: str) -> float:
    """The least share of the pictures in which an aspect is the scene's."""
    found = accuracy([scene] * len(pictures), pictures)
    return min(found[aspect] for aspect in aspects or ("background", "colour"))


@contextmanager
def uploaded(client: httpx2.Client, content: bytes) -> Iterator[str]:
    """The address of a file in the service's own storage."""
    begun = client.post(
        "/rest/storage/upload/initiate",
        json={"content_type": "application/octet-stream", "file_name": "it.safetensors"},
    )
    assert begun.status_code == 200, begun.text
    assert client.put(begun.json()["upload_url"], content=content).status_code == 200
    yield begun.json()["file_url"]
