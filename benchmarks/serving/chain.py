"""What anyone would write on Ray Serve for a picture: an ingress, and three deployments that do nothing but answer.

It has the calls of the service's graph, with no queue, no ledger and no checks: what it costs is Ray's own.
"""

from collections.abc import AsyncIterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
from PIL import Image
from ray import serve
from ray.serve import Application, Deployment
from starlette.requests import Request

from benchmarks.blank import SIDE
from deployments.placement import Options

ITEMS = 6  # of the stream, the picture the last
PNG_COMPRESSION = 1  # as the service writes them

Pixels = npt.NDArray[np.uint8]

# A handle is untyped in Ray: its methods are those of the deployment that it stands for.
Handle = Any


class Preprocessor:
    """One small answer."""

    async def prepare(self, body: dict[str, Any]) -> dict[str, Any]:
        return body


class Diffuser:
    """Steps, then a picture."""

    async def draw(self, body: dict[str, Any]) -> AsyncIterator[int | Pixels]:
        for step in range(ITEMS - 1):
            yield step
        yield np.zeros((1, SIDE, SIDE, 3), np.uint8)


class Postprocessor:
    """Writes the pictures as PNG files into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    async def deliver(self, pictures: Pixels) -> list[str]:
        return [self._written(picture) for picture in pictures]

    def _written(self, picture: Pixels) -> str:
        encoded = BytesIO()
        Image.fromarray(picture).save(encoded, "png", compress_level=PNG_COMPRESSION)
        name = f"{uuid4().hex}.png"
        (self._folder / name).write_bytes(encoded.getvalue())
        return name


class Chain:
    """Calls the three, and hands the picture on by reference."""

    def __init__(self, preprocessor: Handle, diffuser: Handle, postprocessor: Handle) -> None:
        # Serve's throughput mode sends messages unless it is told to hand references on
        self._preprocessor = preprocessor
        self._diffuser = diffuser.options(stream=True, _by_reference=True)
        self._postprocessor = postprocessor.options(_by_reference=True)

    async def __call__(self, request: Request) -> dict[str, list[str]]:
        prepared = await self._preprocessor.prepare.remote(await request.json())
        picture: Any = None
        async for reference in await self._diffuser.draw.remote(prepared)._to_object_ref_gen():
            if not isinstance(await reference, int):
                picture = reference
        return {"images": await self._postprocessor.deliver.remote(picture)}


class Bare:
    """Answers, and calls nobody."""

    async def __call__(self, _: Request) -> dict[str, list[str]]:
        return {"images": []}


def build_chain(options: Mapping[str, Options], folder: Path) -> Application:
    """The chain, with the replicas and the bookings of the service's deployments."""
    stages = (
        _deploy(Preprocessor, options["Preprocessor"]).bind(),
        _deploy(Diffuser, options["Diffuser"]).bind(),
        _deploy(Postprocessor, options["Postprocessor"]).bind(folder),
    )
    return _deploy(Chain, options["Gateway"]).bind(*stages)


def build_bare(options: Mapping[str, Options]) -> Application:
    """The endpoint that only answers."""
    return _deploy(Bare, options["Gateway"]).bind()


def _deploy(cls: type[Any], options: Options) -> Deployment:
    booked = {name: value for name, value in options.items() if name != "user_config"}  # which these do not have
    return serve.deployment(name=cls.__name__, **booked)(cls)
