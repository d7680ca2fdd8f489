"""`/status` for programs: what runs, what waits and what went wrong; what nobody answers for is unknown."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator

from gateway.app import Parts, create_app
from gateway.errors import ModelError, StoreUnavailable
from gateway.files.availability import StoreWatch
from gateway.http import overview as module
from gateway.keys.base import KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from gateway.ledger.models import State
from gateway.ledger.store import SqlLedger
from gateway.work import FamilyState
from gateway.worker.overview import Drawer, Lately, Overview
from tests.gateway.fakes import FAST, INPUT, FakeRunner, LocalDispatcher, until
from tests.gateway.http.conftest import Dispatch, Reach

OF_DISPATCHER = ("leader", "replicas", "starting", "metrics")
OF_LEDGER = ("queue", "webhooks", "errors")
DRAWER = Drawer(
    *("one", "drawing", 16, 4.0, 2),
    bases=("lcm x 1",),
    lora_sets=3,
    lately=Lately(calls=10, rows=55, busy=0.5, bases_found=4, bases_built=1, adapters_found=2, adapters_built=6),
)


@pytest.fixture
def client_of() -> Callable[[Parts], httpx2.AsyncClient]:
    def client_of(parts: Parts) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=create_app(parts)), base_url="http://testserver")

    return client_of


@pytest.fixture
async def client(parts: Parts, client_of: Callable[[Parts], httpx2.AsyncClient]) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(parts) as client:
        yield client


async def told(client: httpx2.AsyncClient) -> Any:
    answer = await client.get("/status")
    assert answer.status_code == 200, answer.text
    assert (answer.headers["cache-control"], answer.headers["vary"]) == ("no-store", "accept, Origin")
    return answer.json()


async def test_it_tells_who_leads_and_who_draws(client: httpx2.AsyncClient, dispatcher: LocalDispatcher) -> None:
    metrics = ("http://10.0.0.1:9000/metrics",)
    dispatcher.told = Overview("leading", 90.04, [DRAWER, Drawer("two", "ended", 0, 0.0, 0)], 1, metrics)
    found = await told(client)
    assert found["unknown"] == []
    assert found["leader"] == {"name": "leading", "leads_for": 90.0}
    assert (found["starting"], found["metrics"]) == (1, [*metrics])
    assert found["replicas"][0] == {
        "name": "one",
        "state": "drawing",
        "rows": 16,
        "rows_taken": 4.0,
        "requests": 2,
        "bases": ["lcm x 1"],
        "lora_sets": 3,
        "rows_a_step": 5.5,
        "busy": 0.5,
        "base_hits": 4,
        "base_misses": 1,
        "lora_hits": 2,
        "lora_misses": 6,
    }
    assert (found["replicas"][1]["state"], found["replicas"][1]["rows_a_step"]) == ("ended", None)


async def test_it_tells_what_waits_by_endpoint_and_priority(
    client: httpx2.AsyncClient, runner: FakeRunner, dispatch: Dispatch, reach: Reach
) -> None:
    runner.gate.clear()
    async with dispatch():
        drawn = (await client.post(f"/queue/{FAST}", json=INPUT)).json()["request_id"]
        await until(runner.begun)
        runner.gate.set()
        await reach(drawn, State.DONE)
    for priority in ("low", "normal", "normal"):
        await client.post(f"/queue/{FAST}", json=INPUT, headers={"x-fal-queue-priority": priority})
    await client.post("/queue/fal-ai/fooocus", json={}, params={"fal_webhook": "https://example.com/"})
    found = await told(client)
    assert [(line["endpoint_id"], line["priority"], line["waiting"]) for line in found["queue"]] == [
        (FAST, "normal", 2),
        (FAST, "low", 1),
        ("fal-ai/fooocus", "normal", 1),
    ]
    assert all((line["claimed"], line["running"]) == (0, 0) for line in found["queue"])
    assert all(0 <= line["oldest_wait"] < 60 for line in found["queue"])
    assert found["webhooks"] == {"owed": 0, "oldest": None}


async def test_the_last_errors_are_told_as_their_callers_were_and_no_prompt(
    client: httpx2.AsyncClient, runner: FakeRunner, dispatched: None
) -> None:
    assert (await client.post(f"/run/{FAST}", json=INPUT)).status_code == 200
    runner.fault = ModelError("image_too_small", "<img src=x onerror=alert(1)>" + "x" * 1000)
    failed = (await client.post(f"/run/{FAST}", json={"prompt": "a secret plan"})).headers["x-fal-request-id"]
    answer = await client.get("/status")
    (error,) = answer.json()["errors"]
    assert error["at"]
    assert {name: error[name] for name in ("request_id", "endpoint_id", "key", "status_code", "error_type")} == {
        "request_id": failed,
        "endpoint_id": FAST,
        "key": None,
        "status_code": 422,
        "error_type": "image_too_small",
    }
    assert error["message"].startswith("<img src=x onerror=alert(1)>xxx")
    assert len(error["message"]) == module.LONGEST_MESSAGE + 1
    assert "secret plan" not in answer.text


async def test_it_tells_versions_and_whether_the_stores_are_there(
    parts: Parts, client_of: Callable[[Parts], httpx2.AsyncClient]
) -> None:
    async def away() -> None:
        raise OSError("no such bucket")

    watches = (StoreWatch("files", away), StoreWatch("ledger", parts.ledger.depth))
    family = FamilyState("toy", (), {}, version="7")
    async with client_of(replace(parts, watches=watches, family=family)) as client:
        found = await told(client)
    assert found["stores"] == {"files": False, "ledger": True}
    assert found["versions"]["family"] == "toy 7"
    assert found["versions"]["service"]
    assert (found["unknown"], found["queue"]) == ([], [])


async def _hang() -> Any:
    await asyncio.sleep(60)


async def _fail() -> Any:
    raise ConnectionError("secret address")


@pytest.mark.parametrize("asked", [_hang, _fail])
async def test_without_a_dispatcher_the_rest_is_told(
    client: httpx2.AsyncClient,
    dispatcher: LocalDispatcher,
    monkeypatch: pytest.MonkeyPatch,
    asked: Callable[[], Awaitable[Any]],
) -> None:
    monkeypatch.setattr(dispatcher, "overview", asked)
    monkeypatch.setattr(module, "PATIENCE_S", 0.3)
    found = await told(client)
    assert (found["unknown"], [found[name] for name in OF_DISPATCHER]) == (["dispatcher"], [None] * 4)
    assert None not in [found[name] for name in OF_LEDGER]
    assert "secret" not in str(found)


@pytest.mark.parametrize("hangs", [False, True])
async def test_without_a_ledger_the_rest_is_told(
    client: httpx2.AsyncClient, parts: Parts, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    async def away(*_: object) -> Any:
        if hangs:
            await asyncio.sleep(60)
        raise StoreUnavailable("ledger")

    assert parts.figures is not None
    monkeypatch.setattr(parts.figures, "now", away)
    monkeypatch.setattr(module, "PATIENCE_S", 0.3)
    found = await told(client)
    assert (found["unknown"], [found[name] for name in OF_LEDGER]) == (["ledger"], [None] * 3)
    assert found["leader"]["name"] == "leading"


async def test_a_slow_ledger_is_read_once_however_many_ask_meanwhile(
    client: httpx2.AsyncClient, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its threads are few, and one that nobody waits for any more has not ended."""
    assert parts.figures is not None
    now, begun, go = parts.figures.now, list[object](), asyncio.Event()

    async def slow(*given: Any) -> Any:
        begun.append(given)
        await go.wait()
        return await now(*given)

    monkeypatch.setattr(parts.figures, "now", slow)
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    monkeypatch.setattr(module, "FRESH_S", 0.0)
    monkeypatch.setattr(module, "SHARE", 1e9)
    for _ in range(3):
        assert (await told(client))["unknown"] == ["ledger"]
    assert len(begun) == 1
    monkeypatch.setattr(module, "PATIENCE_S", 10.0)
    go.set()
    assert (await told(client))["unknown"] == []


@pytest.mark.parametrize(("patience_s", "unknown"), [(10.0, []), (0.05, ["ledger"])])
async def test_a_slow_ledger_is_asked_seldom(
    client: httpx2.AsyncClient,
    parts: Parts,
    monkeypatch: pytest.MonkeyPatch,
    patience_s: float,
    unknown: list[str],
) -> None:
    assert parts.figures is not None
    now, begun = parts.figures.now, list[object]()

    async def slow(*given: Any) -> Any:
        begun.append(given)
        await asyncio.sleep(0.2)
        return await now(*given)

    monkeypatch.setattr(parts.figures, "now", slow)
    monkeypatch.setattr(module, "PATIENCE_S", patience_s)
    monkeypatch.setattr(module, "FRESH_S", 0.0)
    monkeypatch.setattr(module, "SHARE", 0.001)
    for _ in range(2):
        assert (await told(client))["unknown"] == unknown
        await asyncio.sleep(0.3)  # a read that nobody waits for has ended by then
    assert len(begun) == 1


async def test_a_ledger_that_is_known_to_be_away_is_not_asked(
    parts: Parts, client_of: Callable[[Parts], httpx2.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> None:
        raise StoreUnavailable("ledger")

    async def never(*_: object) -> Any:
        pytest.fail("it was asked")

    monkeypatch.setattr(parts.figures, "now", never)
    async with client_of(replace(parts, watches=(StoreWatch("ledger", away),))) as client:
        found = await told(client)
    assert (found["unknown"], found["stores"]) == (["ledger"], {"ledger": False})


async def test_all_who_ask_within_a_moment_cost_one_question(
    client: httpx2.AsyncClient, dispatcher: LocalDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def overview() -> Overview:
        nonlocal asked
        asked += 1
        return Overview("leading", 1.0)

    monkeypatch.setattr(module, "FRESH_S", 60.0)
    monkeypatch.setattr(dispatcher, "overview", overview)
    answers = await asyncio.gather(*(told(client) for _ in range(8)))
    assert (asked, all(answer == answers[0] for answer in answers)) == (1, True)
    assert (await told(client), asked) == (answers[0], 1)


async def test_after_that_moment_it_is_asked_anew(
    client: httpx2.AsyncClient, ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FRESH_S", 0.0)
    monkeypatch.setattr(module, "SHARE", 1e9)
    assert (await told(client))["queue"] == []
    await client.post(f"/queue/{FAST}", json=INPUT)
    assert len((await told(client))["queue"]) == 1


async def test_where_keys_are_required_it_is_for_administrators(
    locked: Parts, keys: SqlKeys, client_of: Callable[[Parts], httpx2.AsyncClient]
) -> None:
    async def with_key(*scopes: Scope) -> dict[str, str]:
        return {"authorization": f"Key {(await keys.create('me', scopes, KeyLimits())).credentials}"}

    async with client_of(locked) as client:
        assert (await client.get("/status")).status_code == 401
        refused = await client.get("/status", headers=await with_key(Scope.RUN, Scope.STORAGE))
        assert (refused.status_code, refused.json()["detail"]) == (403, "The API key lacks the scope 'admin'.")
        assert (await client.get("/status", headers=await with_key(Scope.ADMIN))).status_code == 200


async def test_the_services_document_describes_it(client: httpx2.AsyncClient, dispatcher: LocalDispatcher) -> None:
    dispatcher.told = Overview("leading", 1.0, [DRAWER])
    document = (await client.get("/openapi.json")).json()
    answer = document["paths"]["/status"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    schema = Draft202012Validator({**answer, "components": document["components"]})
    found = await told(client)
    schema.validate(found)
    assert not schema.is_valid({**found, "unknown": ["me"]})
    assert not schema.is_valid({name: found[name] for name in found if name != "errors"})
