"""What the runner would refuse is refused at every door, before anything of the request is stored."""

import dataclasses
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.app import create_app
from gateway.endpoints import ENDPOINTS
from gateway.errors import ModelError, ValidationErrors
from gateway.http.parts import Parts
from gateway.settings import GatewaySettings
from pipelines.spec import Spec
from tests.gateway.fakes import FAST, INPUT, PIXEL, FakeRunner

LONG = "long"


class Check:
    """Refuses one word as a prompt. threads: on which it was called."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def __call__(self, spec: Spec) -> None:
        self.threads.append(threading.get_ident())
        prompts = {"prompt": spec.prompt, "negative_prompt": spec.negative_prompt}
        faults = [ModelError("sequence_too_long", "long", (name,)) for name, text in prompts.items() if text == LONG]
        if faults:
            raise ValidationErrors(faults)


@pytest.fixture
def check() -> Check:
    return Check()


@pytest.fixture
async def client(parts: Parts, check: Check) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=create_app(dataclasses.replace(parts, check=check)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver:8000") as client:
        yield client


def refused(answer: httpx2.Response) -> list[list[Any]]:
    assert answer.status_code == 422, answer.text
    assert answer.headers["x-fal-retryable"] == "false"
    return [[entry["type"], *entry["loc"]] for entry in answer.json()["detail"]]


def accepted(endpoint_id: str) -> dict[str, Any]:
    """An input that is."""
    if endpoint_id.endswith("image-to-image"):
        return {**INPUT, "image_url": PIXEL}
    if endpoint_id.endswith("image-prompt"):
        return {**INPUT, "image_prompt_1": {"type": "CPDS", "image_url": PIXEL}}
    return {**INPUT}


def stored(settings: GatewaySettings) -> list[Path]:
    return [path for path in (settings.data_dir / "files").rglob("*") if path.is_file()]


@pytest.mark.parametrize("door", ["/run/{}", "/queue/{}", "/run/{}/stream", "/{}"])
@pytest.mark.parametrize("endpoint_id", [each for each in ENDPOINTS if not each.endswith(("inpaint", "vary"))])
async def test_no_door_lets_it_in(
    client: httpx2.AsyncClient, runner: FakeRunner, settings: GatewaySettings, door: str, endpoint_id: str
) -> None:
    path, body = door.format(endpoint_id), accepted(endpoint_id)
    answer = await client.post(path, json={**body, "prompt": LONG})
    assert refused(answer) == [["sequence_too_long", "body", "prompt"]]
    answer = await client.post(path, json={**body, "prompt": LONG, "negative_prompt": LONG})
    assert [loc[-1] for loc in refused(answer)] == ["prompt", "negative_prompt"]
    assert runner.seen == []
    assert stored(settings) == []
    assert (await client.get("/requests")).json()["requests"] == []


async def test_get_is_a_door_too(client: httpx2.AsyncClient) -> None:
    answer = await client.get(f"/run/{FAST}", params={"prompt": LONG})
    assert refused(answer) == [["sequence_too_long", "body", "prompt"]]


async def test_the_event_loop_does_not_wait_for_the_check(client: httpx2.AsyncClient, check: Check) -> None:
    assert (await client.post(f"/queue/{FAST}", json=INPUT)).status_code == 200
    assert len(check.threads) == 1
    assert threading.get_ident() not in check.threads
