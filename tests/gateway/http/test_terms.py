"""What a client may say about a request besides its input (fal-protocol 4.1, 7.1)."""

from typing import Any

import httpx2
import pytest

from gateway.errors import PlatformError
from gateway.ledger.models import Outcome, State
from gateway.ledger.store import SqlLedger
from gateway.settings import GatewaySettings
from gateway.work import Work
from tests.gateway.fakes import FAST, INPUT, PIXEL, FakeRunner, work
from tests.gateway.http.conftest import APP, Dispatch, Reach

IMAGE_TO_IMAGE = f"{FAST}/image-to-image"
HOOK = "https://example.org/hook?id=7"


async def submit(client: httpx2.AsyncClient, headers: dict[str, str] | None = None, **more: Any) -> str:
    answer = await client.post(f"/queue/{FAST}", json={**INPUT, **more}, headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["request_id"])


async def claimed(ledger: SqlLedger) -> list[str]:
    return [claim.work.request_id for claim in await ledger.claim("me", 9, 30)]


async def test_low_waits_for_normal(client: httpx2.AsyncClient, ledger: SqlLedger) -> None:
    low = await submit(client, {"x-fal-queue-priority": "low"})
    normal = await submit(client, {"x-fal-queue-priority": "normal"})
    usual = await submit(client)
    assert await claimed(ledger) == [normal, usual, low]


async def test_what_does_not_start_in_time_ends_in_a_timeout_that_clients_do_not_retry(
    client: httpx2.AsyncClient, ledger: SqlLedger, dispatch: Dispatch, runner: FakeRunner, reach: Reach
) -> None:
    runner.gate.clear()
    request_id = await submit(client, {"x-fal-request-timeout": "0.3"})
    async with dispatch():
        await reach(request_id, State.DONE)
    answer = await client.get(f"/queue/{FAST}/requests/{request_id}")
    assert (answer.status_code, answer.headers["x-fal-request-timeout-type"]) == (504, "user")
    assert answer.json()["error_type"] == "request_timeout"


async def test_a_name_of_the_clients_own_makes_one_request_of_two_calls(
    client: httpx2.AsyncClient, ledger: SqlLedger
) -> None:
    headers = {"idempotency-key": "order 7"}
    first = await submit(client, headers)
    assert await submit(client, headers) == first
    assert await ledger.depth() == 1
    assert await submit(client, {"idempotency-key": "order 8"}) != first
    other = await client.post(f"/queue/{FAST}", json={**INPUT, "prompt": "another"}, headers=headers)
    assert (other.status_code, other.json()["error_type"]) == (422, "bad_request")
    assert await ledger.depth() == 2


async def test_a_repeated_request_leaves_no_pictures_behind(client: httpx2.AsyncClient, ledger: SqlLedger) -> None:
    body, headers = {**INPUT, "image_url": PIXEL}, {"idempotency-key": "one"}
    stored = []
    for _ in range(2):
        answer = await client.post(f"/queue/{IMAGE_TO_IMAGE}", json=body, headers=headers)
        assert answer.status_code == 200
        stored.append(answer.json()["request_id"])
    assert stored[0] == stored[1]
    record = await ledger.history.show(stored[0])
    assert record is not None
    assert len(record.media) == 1


async def test_a_refused_request_leaves_no_pictures_behind(
    client: httpx2.AsyncClient, settings: GatewaySettings
) -> None:
    body = {**INPUT, "image_url": PIXEL}
    refused = await client.post(f"/queue/{IMAGE_TO_IMAGE}", json=body, headers={"x-fal-queue-priority": "urgent"})
    assert refused.status_code == 400
    assert not list(settings.data_dir.rglob("inputs/*/*"))


@pytest.mark.parametrize("asked", ["1", "true", "YES"])
async def test_who_wants_no_retries_hears_of_the_first_fault(
    client: httpx2.AsyncClient, dispatch: Dispatch, runner: FakeRunner, reach: Reach, asked: str
) -> None:
    runner.fault = PlatformError("runner_disconnected", "The replica died.")
    request_id = await submit(client, {"x-fal-no-retry": asked})
    async with dispatch():
        await reach(request_id, State.DONE)
    assert len(runner.seen) == 1
    answer = await client.get(f"/queue/{FAST}/requests/{request_id}")
    assert (answer.status_code, answer.json()["error_type"]) == (503, "runner_disconnected")


async def test_the_end_is_owed_to_the_webhook(
    client: httpx2.AsyncClient, ledger: SqlLedger, dispatch: Dispatch, reach: Reach
) -> None:
    answer = await client.post(f"/queue/{FAST}", params={"fal_webhook": HOOK}, json=INPUT)
    request_id = answer.json()["request_id"]
    async with dispatch():
        await reach(request_id, State.DONE)
    (delivery,) = await ledger.outbox.claim("sender", 5, 30)
    assert (delivery.url, delivery.request_id, delivery.outcome) == (HOOK, request_id, Outcome.OK)
    status = await ledger.status(request_id, APP)
    assert status is not None
    assert status.outcome is Outcome.OK


@pytest.mark.parametrize("hook", ["ftp://example.org", "http://10.0.0.1/x", "http://127.0.0.1:1/x", "hook", ""])
async def test_a_webhook_that_cannot_be_called_is_refused_at_once(
    client: httpx2.AsyncClient, ledger: SqlLedger, hook: str
) -> None:
    answer = await client.post(f"/queue/{FAST}", params={"fal_webhook": hook}, json=INPUT)
    assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")
    assert "fal_webhook" in answer.json()["detail"]
    assert await ledger.depth() == 0


@pytest.mark.parametrize(
    ("headers", "params"),
    [
        ({"x-fal-queue-priority": "urgent"}, {}),
        ({"x-fal-request-timeout": "soon"}, {}),
        ({"x-fal-request-timeout": "0.1"}, {}),
        ({"x-fal-request-timeout": "nan"}, {}),
        ({"idempotency-key": " "}, {}),
        ({"idempotency-key": "x" * 256}, {}),
        ({}, {"fal_max_queue_length": "-1"}),
        ({}, {"fal_max_queue_length": "few"}),
    ],
)
async def test_terms_that_make_no_sense_are_refused_by_name(
    client: httpx2.AsyncClient, ledger: SqlLedger, headers: dict[str, str], params: dict[str, str]
) -> None:
    answer = await client.post(f"/queue/{FAST}", json=INPUT, headers=headers, params=params)
    assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")
    assert next(iter({**headers, **params})) in answer.json()["detail"].lower()
    assert await ledger.depth() == 0


async def test_a_start_timeout_beyond_all_dates_is_a_long_one(client: httpx2.AsyncClient, ledger: SqlLedger) -> None:
    request_id = await submit(client, {"x-fal-request-timeout": "1e307"})
    assert await claimed(ledger) == [request_id]


async def test_a_hint_goes_to_whoever_chooses_the_replica(client: httpx2.AsyncClient, ledger: SqlLedger) -> None:
    await submit(client, {"x-fal-runner-hint": "session 7"})
    await submit(client, {"x-fal-runner-hint": "long" * 1000})
    await submit(client)
    hints = [claim.work.hint for claim in await ledger.claim("me", 9, 30)]
    assert hints == ["session 7", "long" * 64, ""]


async def test_a_sync_run_may_have_a_hint_too(client: httpx2.AsyncClient, dispatched: None, runner: FakeRunner) -> None:
    answer = await client.post(f"/run/{FAST}", json=INPUT, headers={"x-fal-runner-hint": "session 7"})
    assert answer.status_code == 200
    assert [work.hint for work in runner.seen] == ["session 7"]


def test_a_work_without_a_hint_is_written_as_before_there_were_any() -> None:
    assert "hint" not in work("r").model_dump_json()
    assert Work.model_validate_json(work("r").model_copy(update={"hint": "x"}).model_dump_json()).hint == "x"
