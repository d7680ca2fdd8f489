"""API keys as users of each client meet them: wrong, missing, expired, too narrow, and another user's request."""

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import fal_client
import httpx
import httpx2
import pytest

from gateway.keys.base import KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from tests.clients.conftest import Drive, drive_with
from tests.clients.guard import Guard
from tests.clients.pointing import point
from tests.kills.service import Served

pytestmark = [pytest.mark.clients, pytest.mark.cluster]

ENDPOINT = "fal-ai/fast-fooocus-sdxl"
QUICK = {"prompt": "quick", "image_size": "square", "num_inference_steps": 1}
CLIENTS = pytest.mark.parametrize(("client", "way"), [("new", "middleware"), ("new", "proxy"), ("old", "middleware")])

RunNode = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def mine(create: Callable[..., str]) -> str:
    return create()


@pytest.fixture(scope="module")
def theirs(create: Callable[..., str]) -> str:
    return create("--scope", "run")


@pytest.fixture(scope="module")
def expired(mine: str, lasting: Served) -> str:
    """The command gives an hour at least, so this one is made by what stands behind it."""

    async def made() -> str:
        keys = await SqlKeys.open(f"sqlite:///{lasting.data / 'ledger.db'}")
        try:
            ended = datetime.now(UTC) - timedelta(minutes=1)
            return (await keys.create("late", [Scope.RUN], KeyLimits(None, None, None), ended)).credentials
        finally:
            await keys.close()

    return asyncio.run(made())


@pytest.fixture
def base(lasting: Served, guard: Guard, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    point(lasting.address, monkeypatch)
    with guard.watching():
        yield lasting.address


@pytest.fixture
def drive(base: str, run_node: RunNode) -> Drive:
    return drive_with(base, run_node)


@pytest.fixture
def python() -> Iterator[Callable[[str], fal_client.SyncClient]]:
    """A client with these credentials."""
    made: list[fal_client.SyncClient] = []

    def client(credentials: str) -> fal_client.SyncClient:
        made.append(fal_client.SyncClient(key=credentials))
        return made[-1]

    yield client
    for one in made:
        one._client.close()


def refused(call: Callable[[], Any]) -> fal_client.FalClientHTTPError:
    with pytest.raises(fal_client.FalClientHTTPError) as found:
        call()
    return found.value


def wrong(credentials: str) -> str:
    return credentials[:-1] + ("A" if credentials[-1] != "A" else "B")


def test_a_good_key_draws(base: str, python: Any, drive: Drive, mine: str, theirs: str) -> None:
    assert python(mine).subscribe(ENDPOINT, arguments=QUICK)["images"]
    assert python(theirs).run(ENDPOINT, arguments=QUICK)["images"]
    assert drive("new", "middleware", "subscribe", ENDPOINT, QUICK, credentials=mine)["output"]["images"]
    assert drive("old", "middleware", "run", ENDPOINT, QUICK, credentials=theirs)["output"]["images"]


@pytest.mark.parametrize("verb", ["submit", "run"])
def test_python_with_a_key_that_does_not_count(base: str, python: Any, mine: str, expired: str, verb: str) -> None:
    for credentials in (wrong(mine), expired, "any:key", "nonsense"):
        error = refused(lambda: getattr(python(credentials), verb)(ENDPOINT, arguments=QUICK))  # noqa: B023
        assert (error.status_code, error.error_type) == (401, "unauthorized")
        assert error.message.startswith("The API key is not valid.")
        assert credentials not in error.response.text
        assert error.response.headers["x-fal-request-id"]


async def test_async_python_with_a_wrong_key(base: str, mine: str) -> None:
    client = fal_client.AsyncClient(key=wrong(mine))
    with pytest.raises(fal_client.FalClientHTTPError) as found:
        await client.subscribe(ENDPOINT, arguments=QUICK)
    await (await client._client).aclose()
    assert (found.value.status_code, found.value.error_type) == (401, "unauthorized")


@CLIENTS
def test_javascript_with_a_key_that_does_not_count(
    drive: Drive, mine: str, expired: str, client: str, way: str
) -> None:
    for credentials in (wrong(mine), expired):
        error = drive(client, way, "subscribe", ENDPOINT, QUICK, credentials=credentials)["error"]
        assert (error["type"], error["status"]) == ("ApiError", 401)
        assert error["body"]["detail"].startswith("The API key is not valid.")


@CLIENTS
def test_javascript_without_a_key(drive: Drive, client: str, way: str) -> None:
    error = drive(client, way, "run", ENDPOINT, QUICK, credentials="")["error"]
    assert (error["type"], error["status"]) == ("ApiError", 401)
    assert "Authorization: Key" in error["body"]["detail"]


def test_a_call_without_a_key_is_told_how(base: str) -> None:
    with httpx2.Client(base_url=base, trust_env=False) as client:
        answer = client.post(f"/queue/{ENDPOINT}", json=QUICK)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Key")
        assert client.get("/openapi.json").json()["security"] == [{"apiKeyAuth": []}]


def test_another_keys_request_is_unknown(base: str, python: Any, drive: Drive, mine: str, theirs: str) -> None:
    request_id = python(mine).submit(ENDPOINT, arguments=QUICK).request_id
    python(mine).result(ENDPOINT, request_id)
    stranger = python(theirs)
    for verb in ("status", "result", "cancel"):
        error = refused(lambda: getattr(stranger, verb)(ENDPOINT, request_id))  # noqa: B023
        assert error.status_code == 404
        nobodys = refused(
            lambda: getattr(stranger, verb)(ENDPOINT, "00000000-0000-4000-8000-000000000000")  # noqa: B023
        )
        # the answers do not tell the two apart
        assert (error.status_code, error.message) == (nobodys.status_code, nobodys.message)
    for client in ("new", "old"):
        found = drive(client, "middleware", "ask", ENDPOINT, {}, credentials=theirs, requestId=request_id)["refused"]
        assert {verb: error["status"] for verb, error in found.items()} == {"status": 404, "result": 404, "cancel": 404}
    assert python(mine).result(ENDPOINT, request_id)["images"]


def test_a_key_to_run_with_may_not_upload(base: str, python: Any, theirs: str) -> None:
    with pytest.raises(httpx.HTTPStatusError) as found:  # for uploads the client has no error of its own
        python(theirs).upload(b"bytes", "image/png")
    body = found.value.response.json()
    assert (found.value.response.status_code, body["error_type"]) == (403, "forbidden")
    assert "storage" in body["detail"]


@pytest.mark.parametrize("client", ["new", "old"])
def test_a_page_cannot_upload_with_a_key_to_run_with(drive: Drive, theirs: str, client: str) -> None:
    error = drive(client, "middleware", "upload", ENDPOINT, {}, credentials=theirs)["error"]
    assert (error["type"], error["status"]) == ("ApiError", 403)
