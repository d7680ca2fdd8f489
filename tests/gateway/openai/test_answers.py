"""What is refused under `/openai/` has OpenAI's shape, whoever refuses it, and keys are what they are elsewhere."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import pytest

from gateway.app import Parts, create_app
from gateway.keys.base import KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from tests.gateway.fakes import FAST, INPUT
from tests.gateway.openai.conftest import RED

GENERATE, EDIT = "/openai/v1/images/generations", "/openai/v1/images/edits"
INPAINT = "fal-ai/fooocus/inpaint"
ASKED: Mapping[str, Any] = {"model": FAST, "prompt": "a red cube"}


@pytest.fixture
async def behind_keys(locked: Parts) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=create_app(locked))
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client


async def bearer(keys: SqlKeys, *scopes: Scope, **limits: Any) -> dict[str, str]:
    issued = await keys.create("app", scopes or (Scope.RUN,), KeyLimits(**limits))
    return {"authorization": f"Bearer {issued.credentials}"}


def error_of(answer: httpx2.Response, status: int) -> Mapping[str, Any]:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body.keys() == {"error"}
    error: Mapping[str, Any] = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert answer.headers["x-request-id"]
    return error


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "code"),
    [
        ("GET", GENERATE, {}, 405, "bad_request"),
        ("POST", "/openai/v1/chat/completions", {"json": {}}, 404, "unknown_url"),
        ("GET", "/openai/v1/models/gpt-image-2", {}, 404, "model_not_found"),
        ("POST", GENERATE, {"content": b"{"}, 400, "bad_request"),
        ("POST", GENERATE, {"json": []}, 400, "bad_request"),
        ("POST", GENERATE, {"json": {}}, 400, "missing"),
        ("POST", EDIT, {"json": {}}, 400, "bad_request"),
        ("POST", EDIT, {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "bad_request"),
        ("POST", EDIT, {"data": ASKED, "files": {"other": RED}}, 400, "value_error"),
        ("POST", EDIT, {"data": ASKED, "files": {"mask": RED}}, 400, "missing"),
        ("POST", GENERATE, {"json": ASKED, "headers": {"host": "evil.example"}}, 400, "bad_request"),
        ("POST", GENERATE, {"json": ASKED, "headers": {"origin": "https://evil.example"}}, 403, "forbidden"),
        ("POST", "/openai//v1/images/generations/", {"json": {}}, 400, "missing"),
    ],
)
async def test_a_refusal_has_their_shape(
    client: httpx2.AsyncClient, method: str, path: str, sent: Mapping[str, Any], status: int, code: str
) -> None:
    assert error_of(await client.request(method, path, **sent), status)["code"] == code


async def test_fals_routes_keep_fals_shape(client: httpx2.AsyncClient) -> None:
    assert "detail" in (await client.post("/run/openai/v1", json={})).json()


async def test_a_body_that_is_too_large_is_told_so(client: httpx2.AsyncClient, parts: Parts) -> None:
    parts.settings.max_body_bytes = 1000
    for sent in ({"json": {**ASKED, "prompt": "x" * 1000}}, {"files": {"image": b"x" * 1000}, "data": ASKED}):
        path = GENERATE if "json" in sent else EDIT
        error_of(await client.post(path, **sent), 413)  # type: ignore[arg-type]


@pytest.mark.parametrize("names", [("styles", "styles"), ("styles", "styles[]"), ("styles[]", "styles")])
async def test_a_field_that_comes_twice_is_refused(client: httpx2.AsyncClient, names: tuple[str, str]) -> None:
    fields = [("model", INPAINT), ("prompt", "a lake"), *((name, "Fooocus V2") for name in names)]
    sent: list[Any] = [("image", ("red.png", RED, "image/png")), *((name, (None, text)) for name, text in fields)]
    assert error_of(await client.post(EDIT, files=sent), 400)["param"] == "styles"


@pytest.mark.parametrize("scheme", ["Bearer", "Key", "bearer"])
async def test_a_key_is_taken_as_openai_and_as_fal_send_it(
    behind_keys: httpx2.AsyncClient, keys: SqlKeys, scheme: str
) -> None:
    _, _, credentials = (await bearer(keys))["authorization"].partition(" ")
    answer = await behind_keys.get("/openai/v1/models", headers={"authorization": f"{scheme} {credentials}"})
    assert answer.status_code == 200


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer id:wrong"}, {"authorization": "Bearer sk-1"}])
async def test_a_call_without_a_key_that_counts_is_told_how_one_is_sent(
    behind_keys: httpx2.AsyncClient, keys: SqlKeys, headers: Mapping[str, str]
) -> None:
    answer = await behind_keys.post(GENERATE, json=ASKED, headers=headers)
    error = error_of(answer, 401)
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
    assert "Authorization: Bearer <id>:<secret>" in error["message"]
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_key_without_the_scope_may_not_draw(behind_keys: httpx2.AsyncClient, keys: SqlKeys) -> None:
    answer = await behind_keys.post(GENERATE, json=ASKED, headers=await bearer(keys, Scope.STORAGE))
    assert error_of(answer, 403)["type"] == "permission_error"


async def test_a_keys_budget_is_one_whatever_the_protocol(behind_keys: httpx2.AsyncClient, keys: SqlKeys) -> None:
    headers = await bearer(keys, pixel_steps=1)
    assert error_of(await behind_keys.post(GENERATE, json=ASKED, headers=headers), 403)["code"] == "budget_exhausted"


async def test_a_keys_queue_is_one_whatever_the_protocol(behind_keys: httpx2.AsyncClient, keys: SqlKeys) -> None:
    headers = await bearer(keys, queue_length=1)
    by_key = {"authorization": headers["authorization"].replace("Bearer", "Key")}
    assert (await behind_keys.post(f"/queue/{FAST}", json=INPUT, headers=by_key)).status_code == 200
    error = error_of(await behind_keys.post(GENERATE, json=ASKED, headers=headers), 429)
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")


async def test_a_bearer_is_no_key_on_fals_routes(behind_keys: httpx2.AsyncClient, keys: SqlKeys) -> None:
    answer = await behind_keys.post(f"/queue/{FAST}", json=INPUT, headers=await bearer(keys))
    assert answer.status_code == 401
    assert "not as a bearer token" in answer.json()["detail"]


@pytest.mark.usefixtures("dispatched")
async def test_what_a_key_draws_is_its_own(behind_keys: httpx2.AsyncClient, keys: SqlKeys) -> None:
    mine, others = await bearer(keys), await bearer(keys)
    drawn = await behind_keys.post(GENERATE, json={**ASKED, "response_format": "url"}, headers=mine)
    assert drawn.status_code == 200, drawn.text
    address = f"/queue/{FAST}/requests/{drawn.headers['x-request-id']}"
    for headers, status in ((mine, 200), (others, 404)):
        by_key = {"authorization": headers["authorization"].replace("Bearer", "Key")}
        assert (await behind_keys.get(address, headers=by_key)).status_code == status
