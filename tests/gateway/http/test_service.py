"""The service about itself: health, readiness, schemas, page."""

from dataclasses import replace

import httpx2
import pytest
from jsonschema import Draft202012Validator

from gateway.app import Parts, create_app
from gateway.endpoints import ENDPOINTS
from gateway.ledger.sql import SqlLedger
from tests.gateway.fakes import FAST, INPUT


async def get(parts: Parts, path: str) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=create_app(parts))
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        return await client.get(path)


async def test_it_is_ready_when_its_parts_are(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/ready")).json() == {"status": "ready", "waiting": 0}


async def test_it_is_not_ready_when_nothing_can_draw(parts: Parts) -> None:
    async def never() -> bool:
        return False

    answer = await get(replace(parts, can_draw=never), "/ready")
    assert (answer.status_code, answer.json()["error_type"]) == (503, "runner_scheduling_failure")


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


async def test_the_page_names_every_endpoint(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert all(f">{endpoint_id}<" in answer.text for endpoint_id in ENDPOINTS)
    assert "http://" not in answer.text.replace("http://testserver", "")
    assert "https://" not in answer.text


async def test_the_document_has_all_endpoints_and_their_references(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    for endpoint_id in ENDPOINTS:
        assert f"/run/{endpoint_id}" in document["paths"]
        assert f"/queue/{endpoint_id}" in document["paths"]
    assert f"/queue/{FAST}/requests/{{request_id}}/status" in document["paths"]
    text = str(document)
    for name in {part.split("'")[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"]


async def test_the_document_of_one_endpoint_describes_its_input(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/openapi.json", params={"endpoint_id": FAST})).json()
    assert [path for path in document["paths"] if path.startswith("/run/")] == [f"/run/{FAST}"]
    asked = document["paths"][f"/run/{FAST}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    check = Draft202012Validator({**asked, "components": document["components"]})
    assert check.is_valid(INPUT)
    assert not check.is_valid({**INPUT, "num_inference_steps": 25})


async def test_an_unknown_endpoint_has_no_document(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/openapi.json", params={"endpoint_id": "fal-ai/none"})).status_code == 404
