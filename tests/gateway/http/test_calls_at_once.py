"""However many calls last, a replica tells its health, and refuses at once what it cannot take."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx2
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from gateway.app import Parts, create_app
from gateway.http.middleware import LEAST_ONGOING, RESERVED, BoundedCalls
from tests.gateway.fakes import FAST, INPUT, FakeRunner, until

MOST = LEAST_ONGOING - RESERVED


class Lasting:
    """An app whose calls last until `end` is set."""

    def __init__(self) -> None:
        self.begun, self.end = 0, asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun += 1
        await self.end.wait()
        if scope["path"] == "/fails":
            raise RuntimeError
        await PlainTextResponse("done")(scope, receive, send)


@pytest.fixture
def lasting() -> Lasting:
    return Lasting()


@pytest.fixture
async def client(lasting: Lasting) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=BoundedCalls(lasting, lambda: LEAST_ONGOING))
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client


@asynccontextmanager
async def held(client: httpx2.AsyncClient, lasting: Lasting, path: str, count: int) -> AsyncIterator[None]:
    """`count` more calls under way; in the end they end."""
    before = lasting.begun
    calls = [asyncio.create_task(client.get(path)) for _ in range(count)]

    async def begun() -> bool:
        return lasting.begun == before + count

    await until(begun)
    yield
    lasting.end.set()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_one_call_too_many_is_refused_at_once(client: httpx2.AsyncClient, lasting: Lasting) -> None:
    async with held(client, lasting, "/", MOST):
        answer = await client.get("/")
        assert answer.status_code == 503
        assert answer.json()["error_type"] == answer.headers["x-fal-error-type"] == "runner_scheduling_failure"
        assert answer.headers["x-fal-retryable"] == "true"
        assert int(answer.headers["retry-after"]) > 0
        assert (await client.get("/ready/x")).status_code == 503
    assert lasting.begun == MOST


async def test_health_and_readiness_pass(client: httpx2.AsyncClient, lasting: Lasting) -> None:
    async with held(client, lasting, "/", MOST), held(client, lasting, "/ready", RESERVED // 2):
        assert (await client.get("/ready")).status_code == 503  # it waits for others, and leaves health its part
        async with held(client, lasting, "/health", RESERVED):
            pass


@pytest.mark.parametrize("path", ["/", "/fails"])
async def test_a_call_that_has_ended_makes_room(client: httpx2.AsyncClient, lasting: Lasting, path: str) -> None:
    async with held(client, lasting, path, MOST):
        pass
    assert (await client.get("/")).status_code == 200


async def test_runs_that_wait_leave_health(parts: Parts, runner: FakeRunner, dispatched: None) -> None:
    runner.gate.clear()
    transport = httpx2.ASGITransport(app=create_app(replace(parts, max_ongoing_requests=lambda: LEAST_ONGOING)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        runs = [asyncio.create_task(client.post(f"/run/{FAST}", json=INPUT)) for _ in range(MOST)]

        async def waiting() -> bool:
            assert parts.history is not None
            return len((await parts.history.list(limit=100)).entries) == MOST

        await until(waiting)
        assert (await client.post(f"/queue/{FAST}", json=INPUT)).status_code == 503
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/ready")).status_code == 200
        runner.gate.set()
        assert {answer.status_code for answer in await asyncio.gather(*runs)} == {200}
        assert (await client.post(f"/queue/{FAST}", json=INPUT)).status_code == 200


def test_too_few_calls_to_keep_some_free_are_refused(parts: Parts) -> None:
    with pytest.raises(ValueError, match="max_ongoing_requests"):
        create_app(replace(parts, max_ongoing_requests=lambda: LEAST_ONGOING - 1)).build_middleware_stack()


async def test_the_number_of_calls_follows_what_serve_changes(lasting: Lasting) -> None:
    most = LEAST_ONGOING
    transport = httpx2.ASGITransport(app=BoundedCalls(lasting, lambda: most))
    async with (
        httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client,
        held(client, lasting, "/", MOST),
    ):
        assert (await client.get("/")).status_code == 503
        most += 1
        async with held(client, lasting, "/", 1):
            assert (await client.get("/")).status_code == 503
