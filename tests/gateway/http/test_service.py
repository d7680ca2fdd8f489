"""The service about itself: health, readiness, schemas, page, and its public keys where fal's verifiers look."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx2
import pytest
import schemathesis
from jsonschema import Draft202012Validator

from gateway.app import Parts, create_app
from gateway.endpoints import ENDPOINTS
from gateway.errors import StoreUnavailable
from gateway.http import service
from gateway.ledger.store import SqlLedger
from gateway.work import FamilyState
from gateway.worker.capacity import Room
from tests.gateway.fakes import FAST, INPUT, LocalDispatcher


async def get(parts: Parts, path: str) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=create_app(parts))
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        return await client.get(path)


async def test_it_is_ready_when_its_parts_are(client: httpx2.AsyncClient) -> None:
    told = (await client.get("/ready")).json()
    assert told == {"status": "ready", "waiting": 0, "replicas": 1, "capacity": 8}


FAMILY = FamilyState(
    "toy",
    ("canny",),
    {
        "safety_checker": "python -m models pull safety_checker --family toy --accept-unpinned",
        "safety_checker_v2": "python -m models pull safety_checker_v2 --family toy --from FOLDER",
    },
)


async def test_it_tells_what_the_family_has_and_what_would_bring_the_rest(parts: Parts) -> None:
    told = (await get(replace(parts, family=FAMILY), "/ready")).json()["family"]
    assert told == {
        "name": "toy",
        "checks_pictures": False,
        "has": ["canny"],
        "missing": {
            "safety_checker": "python -m models pull safety_checker --family toy --accept-unpinned",
            "safety_checker_v2": "python -m models pull safety_checker_v2 --family toy --from FOLDER",
        },
    }
    document = (await get(parts, "/openapi.json")).json()
    described = Draft202012Validator({"$ref": "#/components/schemas/Readiness", "components": document["components"]})
    ready = {"status": "ready", "waiting": 0, "replicas": 0, "capacity": 0}
    described.validate({**ready, "family": told})
    assert not described.is_valid({**ready, "family": {"name": "toy"}})


class OtherDispatcher(LocalDispatcher):
    """One of which `room` is asked."""

    def __init__(self, asked: Callable[[], Awaitable[Room]]) -> None:
        super().__init__()
        self._asked = asked

    async def room(self) -> Room:
        return await self._asked()


async def test_it_is_ready_while_no_replica_lives(parts: Parts) -> None:
    async def nobody() -> Room:
        return Room()

    answer = await get(replace(parts, dispatcher=OtherDispatcher(nobody)), "/ready")
    assert (answer.status_code, answer.json()["replicas"]) == (200, 0)


async def _hang() -> Room:
    await asyncio.sleep(60)
    return Room()


async def _fail() -> Room:
    raise ConnectionError("secret address")


@pytest.mark.parametrize("asked", [_hang, _fail])
async def test_it_is_not_ready_without_a_dispatcher_that_answers(
    parts: Parts, asked: Callable[[], Awaitable[Room]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "READY_TIMEOUT_S", 0.5)
    answer = await get(replace(parts, dispatcher=OtherDispatcher(asked)), "/ready")
    assert (answer.status_code, answer.json()["error_type"]) == (503, "runner_scheduling_failure")
    assert "secret" not in answer.text


async def test_it_lives_but_is_not_ready_without_its_ledger(
    parts: Parts, ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> int:
        raise OSError("disk")

    monkeypatch.setattr(ledger, "depth", broken)
    answer = await get(parts, "/ready")
    assert (answer.status_code, answer.json()["error_type"]) == (503, "runner_connection_error")
    assert "disk" not in answer.text
    assert (await get(parts, "/health")).status_code == 200


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_ledger_that_has_just_gone_is_named_without_a_trace(
    parts: Parts, ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hangs: bool
) -> None:
    """Its watch goes by what it knew a moment ago."""

    async def away() -> int:
        if hangs:
            await asyncio.sleep(60)
        raise StoreUnavailable("ledger")

    monkeypatch.setattr(ledger, "depth", away)
    monkeypatch.setattr(service, "ANSWER_S", 0.05)
    answer = await get(parts, "/ready")
    assert answer.status_code == 503
    assert "ledger store" in answer.json()["detail"]
    assert not [record for record in caplog.records if record.exc_info]


def check_document(document: dict[str, Any]) -> None:
    """It is OpenAPI 3.1, and what it refers to is there."""
    schemathesis.openapi.from_dict(document).validate()
    for path in re.findall(r"'#/([^']+)'", str(document)):
        found: Any = document
        for part in path.split("/"):
            found = found[part]
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    linked = [
        link["operationId"]
        for operation in operations
        for answer in operation["responses"].values()
        for link in answer.get("links", {}).values()
    ]
    assert set(linked) < set(ids)


async def test_the_document_has_every_route_of_every_endpoint(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    check_document(document)
    assert document["servers"] == [{"url": "http://testserver:8000"}]
    for endpoint_id in ENDPOINTS:
        assert {f"/run/{endpoint_id}", f"/run/{endpoint_id}/stream", f"/queue/{endpoint_id}"} <= set(document["paths"])
    assert f"/queue/{FAST}/requests/{{request_id}}/status" in document["paths"]


@pytest.mark.parametrize("endpoint_id", list(ENDPOINTS))
@pytest.mark.parametrize("path", ["/openapi.json", "/api/openapi/queue/openapi.json"])
async def test_the_document_of_one_endpoint_is_as_fal_publishes_it(
    client: httpx2.AsyncClient, path: str, endpoint_id: str
) -> None:
    document = (await client.get(path, params={"endpoint_id": endpoint_id})).json()
    check_document(document)
    one = f"/{endpoint_id}/requests/{{request_id}}"
    assert set(document["paths"]) == {f"/{endpoint_id}", one, f"{one}/status", f"{one}/status/stream", f"{one}/cancel"}
    assert document["servers"] == [{"url": "http://testserver:8000/queue"}]
    assert document["info"]["x-fal-metadata"] == {"endpointId": endpoint_id}
    submit = document["paths"][f"/{endpoint_id}"]["post"]
    assert {"fal_webhook", "fal_max_queue_length", "X-Fal-Request-Timeout", "Idempotency-Key"} <= {
        parameter["name"] for parameter in submit["parameters"]
    }
    name = submit["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert name.endswith("Input")
    shown = document["components"]["schemas"][name]
    assert shown["x-fal-order-properties"] == list(shown["properties"])


async def test_the_document_of_one_endpoint_describes_its_input(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/openapi.json", params={"endpoint_id": FAST})).json()
    asked = document["paths"][f"/{FAST}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    check = Draft202012Validator({**asked, "components": document["components"]})
    assert check.is_valid(INPUT)
    assert not check.is_valid({**INPUT, "num_inference_steps": 25})


@pytest.mark.parametrize("endpoint_id", ["fal-ai/none", "", "fal-ai/fooocus/requests/7"])
async def test_an_unknown_endpoint_has_no_document(client: httpx2.AsyncClient, endpoint_id: str) -> None:
    answer = await client.get("/openapi.json", params={"endpoint_id": endpoint_id})
    assert (answer.status_code, answer.json()["error_type"]) == (404, "bad_request")


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("/.well-known/jwks.json", "testserver"),
        ("/rest/.well-known/jwks.json", "testserver"),
        ("/.well-known/jwks.json", "rest.fal.ai"),
        ("/.well-known/jwks.json", "rest.alpha.fal.ai"),
    ],
)
async def test_the_key_set_is_published(client: httpx2.AsyncClient, path: str, host: str) -> None:
    answer = await client.get(path, headers={"host": host})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=3600"
    (key,) = answer.json()["keys"]
    assert (key["kty"], key["crv"], "d" in key) == ("OKP", "Ed25519", False)
    assert answer.json() == (await client.get("/rest/.well-known/jwks.json")).json()
