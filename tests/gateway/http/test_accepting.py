"""What the runner would refuse is refused at every door, before anything of the request is stored."""

import dataclasses
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.app import create_app
from gateway.endpoints import ENDPOINTS
from gateway.errors import ModelError, ValidationErrors, location
from gateway.http.parts import Parts
from gateway.settings import GatewaySettings
from gateway.work import FamilyState
from pipelines.spec import Spec
from tests.gateway.fakes import FAST, INPUT, PIXEL, FakeRunner

LONG = "long"
ROOT = "fal-ai/fooocus"


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


@asynccontextmanager
async def lacking(
    parts: Parts, missing: Sequence[str] = ("safety_checker", "offset_lora", "refiner")
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an app whose family lacks these, and all controls."""

    def check(spec: Spec) -> None:
        fields = [picture.field for picture in spec.pictures]
        part = {"v1": "safety_checker", "v2": "safety_checker_v2"}[spec.safety_checker_version]
        if spec.check_safety and part in missing:
            fields.append("enable_safety_checker")
        if spec.refiner is not None and "refiner" in missing:
            fields.append(spec.refiner.field)
        msg = "It lacks a_part: `python -m models pull a_part` brings it."
        if fields:
            raise ValidationErrors([ModelError("feature_not_supported", msg, location(field)) for field in fields])

    family = FamilyState("toy", (), dict.fromkeys(missing, "a command"))
    transport = httpx2.ASGITransport(app=create_app(dataclasses.replace(parts, check=check, family=family)))
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


@pytest.mark.parametrize("door", ["/run/{}", "/queue/{}", "/run/{}/stream", "/{}"])
@pytest.mark.parametrize(
    ("endpoint_id", "field"),
    [
        (FAST, "enable_safety_checker"),
        (FAST, "enable_refiner"),
        (ROOT, "enable_safety_checker"),
        (ROOT, "image_prompt_1"),
        (ROOT, "refiner_model"),
    ],
)
async def test_no_door_lets_in_what_needs_a_missing_part(
    parts: Parts, runner: FakeRunner, settings: GatewaySettings, door: str, endpoint_id: str, field: str
) -> None:
    if field == "image_prompt_1":
        endpoint_id, asked = f"{ROOT}/image-prompt", {field: {"type": "CPDS", "image_url": PIXEL}}
    elif field == "refiner_model":
        asked = {field: "realisticVisionV60B1_v51VAE.safetensors", "performance": "Speed"}
    else:
        asked = {field: True}
    async with lacking(parts) as client:
        answer = await client.post(door.format(endpoint_id), json={**INPUT, **asked})
    ((kind, body, *loc),) = refused(answer)
    assert (kind, body, loc[0]) == ("feature_not_supported", "body", field)
    assert "`python -m models pull a_part`" in answer.json()["detail"][0]["msg"]
    assert runner.seen == []
    assert stored(settings) == []


@pytest.mark.parametrize(
    ("endpoint_id", "named"),
    [(FAST, {"enable_safety_checker", "enable_refiner"}), (ROOT, {"enable_safety_checker", "loras"})],
)
async def test_who_did_not_ask_is_served_without_the_missing_part_and_told_so(
    parts: Parts, endpoint_id: str, named: set[str]
) -> None:
    async with lacking(parts) as client:
        answer = await client.post(f"/queue/{endpoint_id}", json=INPUT)
    assert answer.status_code == 200
    assert named <= set(answer.headers["x-fooocus-inactive"].split(", "))
    (claim,) = await parts.ledger.claim("dispatcher", 1, 60)
    assert not claim.work.spec.check_safety
    assert claim.work.spec.refiner is None
    assert [lora.performance for lora in claim.work.spec.loras] == [True]


async def test_who_asks_for_the_second_checker_is_not_left_unchecked_without_the_first(parts: Parts) -> None:
    async with lacking(parts, missing=("safety_checker",)) as client:
        answer = await client.post(f"/queue/{FAST}", json={**INPUT, "safety_checker_version": "v2"})
    assert answer.status_code == 200
    assert "enable_safety_checker" not in answer.headers.get("x-fooocus-inactive", "")
    (claim,) = await parts.ledger.claim("dispatcher", 1, 60)
    assert (claim.work.spec.check_safety, claim.work.spec.safety_checker_version) == (True, "v2")


@pytest.mark.parametrize(("endpoint_id", "field"), [(FAST, "expand_prompt"), (ROOT, "styles")])
@pytest.mark.parametrize("asked", [False, True])
async def test_prompts_stay_as_they_are_without_a_language_model_whether_asked_for_or_not(
    parts: Parts, endpoint_id: str, field: str, asked: bool
) -> None:
    body = {**INPUT, **({field: True if field == "expand_prompt" else ["Fooocus V2", "SAI Anime"]} if asked else {})}
    async with lacking(parts, missing=("expansion",)) as client:
        answer = await client.post(f"/queue/{endpoint_id}", json=body)
    assert answer.status_code == 200
    assert field in answer.headers["x-fooocus-inactive"].split(", ")
    (claim,) = await parts.ledger.claim("dispatcher", 1, 60)
    assert not claim.work.spec.expand_prompt
    async with lacking(parts, missing=()) as client:
        answer = await client.post(f"/queue/{endpoint_id}", json={**body, "styles": ["Fooocus V2"]})
    assert field not in answer.headers.get("x-fooocus-inactive", "").split(", ")
    (claim,) = await parts.ledger.claim("dispatcher", 1, 60)
    assert claim.work.spec.expand_prompt


async def test_a_whole_family_is_drawn_with_whole(parts: Parts) -> None:
    async with lacking(parts, missing=()) as client:
        answer = await client.post(f"/queue/{FAST}", json=INPUT)
    assert "enable_safety_checker" not in answer.headers.get("x-fooocus-inactive", "")
    (claim,) = await parts.ledger.claim("dispatcher", 1, 60)
    assert claim.work.spec.check_safety
    assert claim.work.spec.refiner is not None


async def test_get_is_a_door_too(client: httpx2.AsyncClient) -> None:
    answer = await client.get(f"/run/{FAST}", params={"prompt": LONG})
    assert refused(answer) == [["sequence_too_long", "body", "prompt"]]


async def test_the_event_loop_does_not_wait_for_the_check(client: httpx2.AsyncClient, check: Check) -> None:
    assert (await client.post(f"/queue/{FAST}", json=INPUT)).status_code == 200
    assert len(check.threads) == 1
    assert threading.get_ident() not in check.threads
