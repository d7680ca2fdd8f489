"""The routes of the history: whose requests are listed, what is shown of them, and what a deletion takes along."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import pytest

from gateway.app import create_app
from gateway.errors import ModelError
from gateway.files.backends import LocalFiles
from gateway.http.parts import Parts
from gateway.http.submission import MAX_TEXT
from gateway.keys.base import KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from gateway.ledger.models import State
from tests.gateway.fakes import FAST, INPUT, PIXEL, FakeRunner, finished, until
from tests.gateway.http.conftest import APP, Dispatch, Reach

IMAGE_TO_IMAGE = f"{FAST}/image-to-image"


async def submitted(
    client: httpx2.AsyncClient, endpoint: str = FAST, headers: Mapping[str, str] | None = None, **more: Any
) -> str:
    answer = await client.post(f"/queue/{endpoint}", json={**INPUT, **more}, headers=headers)
    assert answer.status_code == 200, answer.text
    request_id: str = answer.json()["request_id"]
    return request_id


async def test_requests_are_listed_newest_first_in_pages(client: httpx2.AsyncClient) -> None:
    names = [await submitted(client) for _ in range(3)]
    other = await submitted(client, "fal-ai/fooocus")
    first = (await client.get("/requests", params={"limit": 2})).json()
    assert [entry["request_id"] for entry in first["requests"]] == [other, names[2]]
    second = (await client.get("/queue/requests", params={"cursor": first["cursor"]})).json()
    assert ([entry["request_id"] for entry in second["requests"]], second["cursor"]) == ([names[1], names[0]], None)
    of_one = (await client.get("/requests", params={"endpoint_id": "fal-ai/fooocus"})).json()
    assert [entry["endpoint_id"] for entry in of_one["requests"]] == ["fal-ai/fooocus"]


async def test_a_list_is_of_those_in_one_state_or_with_one_outcome(
    client: httpx2.AsyncClient, runner: FakeRunner, dispatch: Dispatch, reach: Reach
) -> None:
    async def listed(**query: str) -> list[str]:
        answer = await client.get("/requests", params=query)
        return [entry["request_id"] for entry in answer.json()["requests"]]

    runner.faults["refused"] = ModelError("image_too_small", "Too small.")
    drawn, failed = await submitted(client), await submitted(client, prompt="refused")
    async with dispatch():
        await reach(drawn, State.DONE)
        await reach(failed, State.DONE)
    stopped = await submitted(client)
    await client.put(f"/queue/{APP}/requests/{stopped}/cancel")
    waiting = await submitted(client)
    assert await listed(status="IN_QUEUE") == [waiting]
    assert await listed(status="IN_PROGRESS") == []
    assert await listed(status="COMPLETED") == [stopped, failed, drawn]
    assert [await listed(outcome=each) for each in ("ok", "error", "cancelled")] == [[drawn], [failed], [stopped]]
    assert await listed(outcome="ok", endpoint_id="fal-ai/fooocus") == []


async def test_the_queues_own_host_has_them_as_requests(client: httpx2.AsyncClient) -> None:
    request_id = await submitted(client)
    answer = await client.get("/requests", headers={"host": "queue.fal.run"})
    assert [entry["request_id"] for entry in answer.json()["requests"]] == [request_id]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "101"},
        {"limit": "x"},
        {"cursor": "x"},
        {"status": "completed"},
        {"outcome": ""},
    ],
)
async def test_a_page_that_cannot_be_is_refused(client: httpx2.AsyncClient, query: Mapping[str, str]) -> None:
    answer = await client.get("/requests", params=query)
    assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")


async def test_a_request_shows_its_input_output_and_log(
    client: httpx2.AsyncClient, dispatch: Dispatch, reach: Reach
) -> None:
    request_id = await submitted(client, surprise={"more": ["data:image/png;base64,AAAA"]})
    waiting = (await client.get(f"/requests/{request_id}")).json()
    assert (waiting["status"], waiting["output"], waiting["status_code"]) == ("IN_QUEUE", None, None)
    async with dispatch():
        await reach(request_id, State.DONE)
    shown = (await client.get(f"/requests/{request_id}")).json()
    assert (shown["status"], shown["outcome"], shown["status_code"]) == ("COMPLETED", "ok", 200)
    assert shown["input"] == {**INPUT, "surprise": {"more": ["data:image/png;base64,…"]}}
    assert shown["output"] == (await client.get(f"/queue/{APP}/requests/{request_id}")).json()
    assert [log["message"] for log in shown["logs"][:2]] == ["Without effect: unknown:surprise", "Sampling step 0/3"]
    assert shown["created_at"] <= shown["started_at"] <= shown["finished_at"]
    assert (shown["key"], shown["priority"], shown["attempts"], shown["stored"]) == (None, "normal", 1, True)
    assert shown["seeds"] == [INPUT["seed"]]


@pytest.mark.parametrize(
    ("sent", "shown"),
    [("NaN", None), ("-1e999", None), (r'"\ud800"', "?"), (r'{"\ud800": [1]}', {"?": [1]}), (r'"\u0000"', "\0")],
)
async def test_an_input_that_no_answer_can_hold_is_shown_as_well_as_it_can_be(
    client: httpx2.AsyncClient, sent: str, shown: Any
) -> None:
    answer = await client.post(f"/queue/{FAST}", content=f'{{"prompt": "x", "surprise": {sent}}}')
    asked = (await client.get(f"/requests/{answer.json()['request_id']}")).json()["input"]
    assert asked == {"prompt": "x", "surprise": shown}


async def test_of_a_huge_input_no_more_is_kept_than_a_prompt_has(client: httpx2.AsyncClient) -> None:
    request_id = await submitted(client, surprise="é" * 20_000)
    shown = (await client.get(f"/requests/{request_id}")).json()["input"]["surprise"]
    assert (shown[:-1], shown[-1]) == ("é" * MAX_TEXT, "…")
    request_id = await submitted(client, surprise=["x" * MAX_TEXT] * 30)
    assert (await client.get(f"/requests/{request_id}")).json()["input"] is None


async def test_a_sync_run_and_its_failure_are_history_too(
    client: httpx2.AsyncClient, runner: FakeRunner, dispatched: None
) -> None:
    runner.fault = ModelError("image_too_small", "Too small.")
    request_id = (await client.post(f"/run/{FAST}", json=INPUT)).headers["x-fal-request-id"]
    shown = (await client.get(f"/requests/{request_id}")).json()
    assert (shown["outcome"], shown["error_type"], shown["status_code"]) == ("error", "image_too_small", 422)
    assert (shown["input"], shown["output"]) == (INPUT, runner.fault.body())


@pytest.mark.parametrize("way", ["queue", "run"])
async def test_what_is_not_to_be_stored_is_not_shown_but_answered(
    client: httpx2.AsyncClient, dispatch: Dispatch, reach: Reach, way: str
) -> None:
    async with dispatch():
        answer = await client.post(f"/{way}/{FAST}", json=INPUT, headers={"x-fal-store-io": "0"})
        request_id = answer.headers["x-fal-request-id"]
        await reach(request_id, State.DONE)
    shown = (await client.get(f"/requests/{request_id}")).json()
    assert (shown["stored"], shown["input"], shown["output"], shown["outcome"]) == (False, None, None, "ok")
    assert shown["seeds"] == []
    assert shown["logs"] == []  # they would tell what was drawn from
    assert (await client.get(f"/queue/{APP}/requests/{request_id}")).json()["seed"] == 7


@pytest.mark.parametrize("inline", [True, False])
async def test_with_sync_mode_the_output_is_answered_and_kept_out_of_the_history(
    client: httpx2.AsyncClient, dispatch: Dispatch, reach: Reach, inline: bool
) -> None:
    answer = await client.post("/queue/fal-ai/fooocus", json={"sync_mode": inline})
    request_id = answer.json()["request_id"]
    async with dispatch():
        await until(lambda: _is_completed(client, request_id))
    shown = (await client.get(f"/requests/{request_id}")).json()
    assert (shown["stored"], shown["status_code"], shown["output"] is None) == (True, 200, inline)
    assert (await client.get(f"/queue/fal-ai/fooocus/requests/{request_id}")).json()["images"]


async def _is_completed(client: httpx2.AsyncClient, request_id: str) -> bool:
    shown = await client.get(f"/requests/{request_id}")
    return bool(shown.json()["status"] == "COMPLETED")


async def test_what_does_not_act_is_named_in_the_log_and_the_history(
    client: httpx2.AsyncClient, dispatch: Dispatch, reach: Reach
) -> None:
    request_id = await submitted(client, promtp="a typo", seed=-1)
    async with dispatch():
        await reach(request_id, State.DONE)
    shown = (await client.get(f"/requests/{request_id}")).json()
    assert {"unknown:promtp", "seed"} <= {*shown["inactive"]}
    first = shown["logs"][0]
    assert first["message"].startswith("Without effect: ")
    assert "unknown:promtp" in first["message"]
    assert (first["level"], first["labels"]) == ("WARN", {"level": "WARN", "source": "USER"})


async def test_a_deleted_request_is_gone_with_its_files(
    client: httpx2.AsyncClient, parts: Parts, runner: FakeRunner, dispatch: Dispatch, reach: Reach
) -> None:
    request_id = await submitted(client, IMAGE_TO_IMAGE, image_url=PIXEL)
    assert (await client.delete(f"/requests/{request_id}")).status_code == 400
    async with dispatch():
        await reach(request_id, State.DONE)
    (work,) = runner.seen
    assert work.spec.start is not None
    source = work.spec.start.source.removeprefix("stored:")
    (url,) = (image.url for image in finished(work).images)
    output = url.partition("/files/")[2]
    await parts.files.put(output, b"x", "image/png")
    assert await parts.files.get(source) is not None
    answer = await client.delete(f"/requests/{request_id}")
    assert (answer.status_code, answer.json()) == (200, {"request_id": request_id, "files": 2})
    assert (await parts.files.get(source), await parts.files.get(output)) == (None, None)
    assert (await client.get(f"/requests/{request_id}")).status_code == 404
    assert (await client.get(f"/queue/{APP}/requests/{request_id}/status")).status_code == 404
    assert (await client.delete(f"/requests/{request_id}")).status_code == 404


class Keyed:
    """An app where keys are required, and a key of each kind."""

    def __init__(self, client: httpx2.AsyncClient, keys: SqlKeys) -> None:
        self.client, self._keys = client, keys

    async def key(self, *scopes: Scope) -> tuple[str, dict[str, str]]:
        issued = await self._keys.create("app", scopes or (Scope.RUN,), KeyLimits(), None)
        return issued.key.id, {"authorization": f"Key {issued.credentials}"}

    async def listed(self, headers: Mapping[str, str], **query: str) -> list[str]:
        answer = await self.client.get("/requests", headers=headers, params=query)
        return [entry["request_id"] for entry in answer.json()["requests"]]


@pytest.fixture
async def keyed(parts: Parts) -> AsyncIterator[Keyed]:
    keys = await SqlKeys.open(parts.settings.ledger_address)
    settings = parts.settings.model_copy(update={"keys": "required", "allowed_hosts": ()})
    files = LocalFiles(settings.data_dir / "files")
    app = create_app(Parts(settings, parts.ledger, files, parts.dispatcher, keys=keys, history=parts.history))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://testserver") as client:
        yield Keyed(client, keys)
    await keys.close()


async def test_a_key_has_the_history_of_its_own_requests(keyed: Keyed) -> None:
    (mine, my_key), (_, other_key) = await keyed.key(), await keyed.key()
    request_id = await submitted(keyed.client, headers=my_key)
    assert (await keyed.listed(my_key), await keyed.listed(other_key)) == ([request_id], [])
    assert await keyed.listed(my_key, key=mine) == [request_id]
    await keyed.client.put(f"/queue/{APP}/requests/{request_id}/cancel", headers=my_key)
    for method in ("GET", "DELETE"):
        answer = await keyed.client.request(method, f"/requests/{request_id}", headers=other_key)
        assert answer.status_code == 404
    assert (await keyed.client.delete(f"/requests/{request_id}", headers=my_key)).status_code == 200
    assert (await keyed.client.get("/requests")).status_code == 401


async def test_an_admins_key_has_that_of_all(keyed: Keyed) -> None:
    (mine, my_key), (_, admin_key) = await keyed.key(), await keyed.key(Scope.ADMIN)
    request_id = await submitted(keyed.client, headers=my_key)
    assert await keyed.listed(admin_key) == []
    assert await keyed.listed(admin_key, key="all") == [request_id]
    assert await keyed.listed(admin_key, key=mine) == [request_id]
    assert (await keyed.client.get(f"/requests/{request_id}", headers=admin_key)).json()["key"] == mine
    refused = await keyed.client.get("/requests", headers=my_key, params={"key": "all"})
    assert (refused.status_code, refused.json()["error_type"]) == (403, "forbidden")
