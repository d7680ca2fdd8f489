"""Status polls above a replica's rate: answered when something is new, counted in answers and in questions."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import httpx2
import pytest

from gateway.http import long_poll, queue
from gateway.http.long_poll import StatusBroadcaster, TokenBucket, Watch
from gateway.ledger.models import Status
from gateway.ledger.store import SqlLedger
from gateway.settings import GatewaySettings
from tests.gateway.fakes import FAST, INPUT, until
from tests.gateway.http.conftest import APP

RATE = 10


@pytest.fixture
def settings(settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch) -> GatewaySettings:
    """With a rate whose second does not pass."""
    monkeypatch.setattr(queue, "TokenBucket", lambda per_s: TokenBucket(per_s, lambda: 0.0))
    return settings.model_copy(update={"status_polls_per_s": RATE})


@pytest.fixture
def held_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is answered because its time is over."""
    monkeypatch.setattr(long_poll, "MAX_HOLD_S", 60)
    monkeypatch.setattr(long_poll, "TICK_S", 0.02)  # no dispatcher says what changes


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that somebody began to listen to."""
    begun: list[str] = []
    watch = StatusBroadcaster.watch

    def noted(watching: StatusBroadcaster, status: Status) -> AbstractContextManager[Watch]:
        begun.append(status.request_id)
        return watch(watching, status)

    monkeypatch.setattr(StatusBroadcaster, "watch", noted)
    return begun


async def until_listening(listening: Sequence[object], count: int) -> None:
    async def reached() -> bool:
        return len(listening) >= count

    await until(reached)


async def until_answered(polls: Sequence[asyncio.Task[httpx2.Response]], count: int) -> None:
    async def reached() -> bool:
        return sum(poll.done() for poll in polls) >= count

    await until(reached)


async def submitted(client: httpx2.AsyncClient) -> str:
    request_id: str = (await client.post(f"/queue/{FAST}", json=INPUT)).json()["request_id"]
    return request_id


async def poll(client: httpx2.AsyncClient, request_id: str) -> httpx2.Response:
    return await client.get(f"/queue/{APP}/requests/{request_id}/status")


def test_a_rate_is_what_comes_within_a_second() -> None:
    now = 0.0
    rate = TokenBucket(lambda: 4, lambda: now)
    assert [rate.try_acquire() for _ in range(6)] == [True] * 4 + [False] * 2
    now = 0.5
    assert [rate.try_acquire() for _ in range(3)] == [True, True, False]
    now = 99.0
    assert [rate.try_acquire() for _ in range(5)] == [True] * 4 + [False]


def test_less_than_one_a_second_is_a_rate_too() -> None:
    now = 0.0
    rate = TokenBucket(lambda: 0.5, lambda: now)
    assert [rate.try_acquire(), rate.try_acquire()] == [True, False]
    now = 2.0
    assert rate.try_acquire()


@pytest.mark.usefixtures("held_long")
async def test_below_the_rate_polls_are_answered_at_once(client: httpx2.AsyncClient) -> None:
    request_id = await submitted(client)
    async with asyncio.timeout(10):
        answers = [await poll(client, request_id) for _ in range(RATE)]
    assert {answer.json()["status"] for answer in answers} == {"IN_QUEUE"}


@pytest.mark.usefixtures("held_long")
async def test_above_it_all_wait_for_a_change_with_one_question_for_all(
    client: httpx2.AsyncClient, ledger: SqlLedger, listening: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    read = ledger.statuses

    async def counted(request_ids: Sequence[str]) -> Mapping[str, Status]:
        asked.append(len(request_ids))
        return await read(request_ids)

    monkeypatch.setattr(ledger, "statuses", counted)
    names = [await submitted(client) for _ in range(4)]
    for name in names:
        await poll(client, name)
    polls = [asyncio.create_task(poll(client, name)) for name in names * 10]
    expected = len(polls) - (RATE - len(names))
    await until_listening(listening, expected)
    await until_answered(polls, len(polls) - expected)
    held = [task for task in polls if not task.done()]
    assert len(held) == len(listening) == expected
    await until_listening(asked, 2)
    assert max(asked) <= len(names)
    (claim,) = await ledger.claim("one", 1, 60)
    await ledger.running(claim)  # the first begins, so that the others move up
    answers = [(await asyncio.wait_for(task, 10)).json() for task in held]
    assert {answer["status"] for answer in answers if answer["request_id"] == names[0]} == {"IN_PROGRESS"}
    assert {answer["queue_position"] for answer in answers if answer["request_id"] != names[0]} <= {0, 1, 2}


@pytest.mark.usefixtures("held_long")
async def test_what_was_not_told_yet_is_told_at_once(client: httpx2.AsyncClient, ledger: SqlLedger) -> None:
    request_id = await submitted(client)
    for _ in range(RATE):
        await poll(client, request_id)
    (claim,) = await ledger.claim("one", 1, 60)
    await ledger.running(claim)
    answer = await asyncio.wait_for(poll(client, request_id), 10)
    assert answer.json()["status"] == "IN_PROGRESS"


@pytest.mark.usefixtures("held_long")
async def test_what_is_done_is_never_held(client: httpx2.AsyncClient) -> None:
    request_id = await submitted(client)
    await client.put(f"/queue/{APP}/requests/{request_id}/cancel")
    async with asyncio.timeout(10):
        answers = [await poll(client, request_id) for _ in range(3 * RATE)]
    assert {answer.json()["status"] for answer in answers} == {"COMPLETED"}


async def test_a_cancellation_is_told_at_once_to_who_waits_here(
    client: httpx2.AsyncClient, listening: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_poll, "MAX_HOLD_S", 60)
    monkeypatch.setattr(long_poll, "PERIOD_S", 60)
    monkeypatch.setattr(long_poll, "TICK_S", 60)
    request_id = await submitted(client)
    for _ in range(RATE):
        await poll(client, request_id)
    waiting = asyncio.create_task(poll(client, request_id))
    await until_listening(listening, 1)
    await client.put(f"/queue/{APP}/requests/{request_id}/cancel")
    answer = await asyncio.wait_for(waiting, 10)
    assert answer.json()["status"] == "COMPLETED"


async def test_a_poll_is_answered_although_nothing_changes(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert long_poll.MAX_HOLD_S == 1
    monkeypatch.setattr(long_poll, "MAX_HOLD_S", 0.05)
    request_id = await submitted(client)
    answers = await asyncio.gather(*(poll(client, request_id) for _ in range(5 * RATE)))
    assert [answer.status_code for answer in answers] == [202] * 5 * RATE


@pytest.mark.usefixtures("held_long")
async def test_new_lines_are_news_to_who_asks_for_logs(
    client: httpx2.AsyncClient, ledger: SqlLedger, listening: list[str]
) -> None:
    request_id = await submitted(client)
    (claim,) = await ledger.claim("one", 1, 60)
    await ledger.running(claim)
    address = f"/queue/{APP}/requests/{request_id}/status"
    for _ in range(RATE):
        await client.get(address, params={"logs": "1"})
    waiting = asyncio.create_task(client.get(address, params={"logs": "1"}))
    await until_listening(listening, 1)
    assert not waiting.done()
    await ledger.log(claim, [("INFO", "line")])
    answer = await asyncio.wait_for(waiting, 10)
    assert [line["message"] for line in answer.json()["logs"]] == ["line"]
