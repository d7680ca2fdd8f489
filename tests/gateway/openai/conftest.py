"""The published client in front of a real server with the app, under the guard."""

from collections.abc import AsyncIterator
from io import BytesIO

import pytest
from openai import AsyncOpenAI
from PIL import Image

from gateway.app import Parts
from tests.clients.guard import Guard
from tests.gateway.fakes import FakeRunner
from tests.gateway.http.conftest import (
    client,
    dispatch,
    dispatched,
    dispatcher,
    keys,
    locked,
    parts,
    reach,
    serving,
)
from tests.gateway.picture_files import saved
from tests.gateway.storing_runner import StoringRunner

__all__ = ["client", "dispatch", "dispatched", "dispatcher", "keys", "locked", "parts", "reach"]

RED = saved(Image.new("RGB", (64, 64), "red"), "PNG")


def with_hole(transparent: tuple[int, int, int, int] | None = (0, 0, 32, 32)) -> bytes:
    """A picture of 64 x 64 pixels that is transparent in a box."""
    image = Image.new("RGBA", (64, 64), "red")
    if transparent is not None:
        image.paste((0, 0, 0, 0), transparent)
    return saved(image, "PNG")


def opened(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content))


@pytest.fixture(scope="session")
def guard() -> Guard:
    return Guard()


@pytest.fixture
def runner(parts: Parts) -> FakeRunner:
    return StoringRunner(parts.files)


@pytest.fixture
async def openai(parts: Parts, guard: Guard) -> AsyncIterator[AsyncOpenAI]:
    async with serving(parts) as address:
        client = AsyncOpenAI(base_url=f"{address}/openai/v1", api_key="any", max_retries=0)
        with guard.watching():
            yield client
        await client.close()
