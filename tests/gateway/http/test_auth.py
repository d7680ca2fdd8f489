"""Where keys are required, nothing that is somebody's is reached without the right one."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.app import Parts, create_app
from gateway.http.auth import caller
from gateway.http.routes import Route
from gateway.keys.base import KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from gateway.keys.tokens import Purpose, Tokens
from tests.gateway.fakes import FAST, INPUT

FREE = KeyLimits()

pytestmark = pytest.mark.usefixtures("dispatched")
ALIAS = FAST.split("/")[1]


@pytest.fixture
async def client(locked: Parts) -> AsyncIterator[httpx2.AsyncClient]:
    async def who(request: Request) -> Response:
        found = caller(request)
        return JSONResponse([found.key, sorted(found.scopes)])

    app = create_app(locked)
    both: Any = {"methods": ["GET", "POST"]}
    app.router.routes[:0] = [
        Route("/run/who", who, needs=Scope.RUN, **both),
        Route("/cdn/who", who, needs=Scope.STORAGE, token=Purpose.STORAGE, **both),
        Route("/rest/storage/who", who, needs=Scope.STORAGE, **both),
        Route("/admin/who", who, needs=Scope.ADMIN, **both),
        Route("/run/{endpoint:path}/stream", who, needs=Scope.RUN, token=Purpose.STREAM, **both),
    ]
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://testserver") as client:
        yield client


async def made(keys: SqlKeys, *scopes: Scope, expires_at: datetime | None = None) -> dict[str, str]:
    issued = await keys.create("app", scopes or (Scope.RUN, Scope.STORAGE), FREE, expires_at)
    return {"authorization": f"Key {issued.credentials}"}


def refused(answer: httpx2.Response, status: int) -> bool:
    body = answer.json()
    return (
        answer.status_code == status
        and body["detail"] == body["message"]
        and answer.headers["x-fal-error-type"] == body["error_type"] == {401: "unauthorized", 403: "forbidden"}[status]
        and bool(answer.headers["x-fal-request-id"])
        and ("www-authenticate" in answer.headers) is (status == 401)
    )


@pytest.mark.parametrize(
    "path", [f"/run/{FAST}", f"/{FAST}", f"/queue/{FAST}", "/rest/tokens/", "/cdn/files/upload", "/x"]
)
async def test_without_a_key_nothing_is_done(client: httpx2.AsyncClient, locked: Parts, path: str) -> None:
    assert refused(await client.post(path, json=INPUT), 401)
    assert await locked.ledger.depth() == 0


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/openapi.json", "/.well-known/jwks.json"])
async def test_what_is_for_everybody_needs_none(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200


async def test_outputs_are_public(client: httpx2.AsyncClient) -> None:
    for path in ("/files/outputs/x.png", "/files/uploads/x.png", "/cdn/files/uploads/x.png"):
        assert (await client.get(path)).json()["detail"] == "File not found"
    assert refused(await client.put("/cdn/files/uploads/x.png"), 401)
    assert refused(await client.get("/files/outputs/x.png", headers={"authorization": "Key a:b"}), 401)


async def test_a_key_opens_run_and_queue(client: httpx2.AsyncClient, keys: SqlKeys) -> None:
    headers = await made(keys)
    assert (await client.post(f"/run/{FAST}", json=INPUT, headers=headers)).json()["seed"] == 7
    submitted = (await client.post(f"/queue/{FAST}", json=INPUT, headers=headers)).json()
    assert (await client.get(submitted["status_url"], headers=headers)).status_code in (200, 202)
    assert refused(await client.get(submitted["status_url"]), 401)


async def test_the_proxied_form_needs_a_key_too(client: httpx2.AsyncClient, keys: SqlKeys) -> None:
    target = {"x-fal-target-url": f"https://fal.run/{FAST}"}
    assert refused(await client.post("/api/fal/proxy", json=INPUT, headers=target), 401)
    both = {**target, **await made(keys)}
    assert (await client.post("/api/fal/proxy", json=INPUT, headers=both)).status_code == 200


@pytest.mark.parametrize(
    "header", ["", "Key", "Key geheim", "Basic eDp5", "Bearer x.y.z", "key 0123456789abcdef:" + "x" * 43, "Key ü:ü"]
)
async def test_a_wrong_key_is_refused_without_being_repeated(client: httpx2.AsyncClient, header: str) -> None:
    answer = await client.get("/run/who", headers={"authorization": header.encode()})
    assert refused(answer, 401)
    secret = header.rpartition(" ")[2].rpartition(":")[2]
    assert len(secret) < 4 or secret not in answer.text


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("", "Authentication is required"),
        ("id:secret", "Authentication is required"),
        ("Key id:secret", "unknown, revoked or expired"),
        ("Bearer id:secret", "not as a bearer token"),
        ("Bearer x.y.z", "The token is not valid or has expired; send the header"),
    ],
)
async def test_who_is_refused_is_told_how_a_key_is_sent(client: httpx2.AsyncClient, header: str, words: str) -> None:
    answer = await client.get("/run/who", headers={"authorization": header})
    assert refused(answer, 401)
    assert words in answer.json()["detail"]
    assert "send the header 'Authorization: Key <id>:<secret>'" in answer.json()["detail"]


async def test_a_token_that_has_expired_is_told_where_new_ones_are(client: httpx2.AsyncClient) -> None:
    answer = await client.post(f"/run/{FAST}/stream", params={"fal_jwt_token": "x.y.z"}, json=INPUT)
    assert refused(answer, 401)
    assert "a new one at /rest/tokens/" in answer.json()["detail"]


async def test_an_expired_and_a_revoked_key_are_refused(client: httpx2.AsyncClient, keys: SqlKeys) -> None:
    expired = await made(keys, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert refused(await client.get("/run/who", headers=expired), 401)
    revoked = await made(keys)
    assert (await client.get("/run/who", headers=revoked)).status_code == 200
    for key in await keys.all():
        await keys.revoke(key.id)
    assert refused(await client.get("/run/who", headers=revoked), 401)


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        (Scope.RUN, ["/run/who"]),
        (Scope.STORAGE, ["/cdn/who", "/rest/storage/who"]),
        (Scope.ADMIN, ["/run/who", "/cdn/who", "/rest/storage/who", "/admin/who"]),
    ],
)
async def test_a_key_does_what_its_scopes_say(
    client: httpx2.AsyncClient, keys: SqlKeys, scope: Scope, allowed: list[str]
) -> None:
    headers = await made(keys, scope)
    for path in ("/run/who", "/cdn/who", "/rest/storage/who", "/admin/who"):
        answer = await client.get(path, headers=headers)
        assert answer.json()[1] == [scope] if path in allowed else refused(answer, 403)


@pytest.mark.parametrize("path", ["/rest/tokens/", "/rest/tokens"])
async def test_a_token_streams_in_its_keys_name(client: httpx2.AsyncClient, keys: SqlKeys, path: str) -> None:
    headers = await made(keys)
    asked = {"allowed_apps": [ALIAS], "token_expiration": 120}
    answer = await client.post(path, json=asked, headers=headers)
    token = answer.json()
    assert (answer.status_code, type(token)) == (200, str)  # the only form that all clients take
    (key,) = await keys.all()
    streamed = await client.post(f"/run/{FAST}/stream?fal_jwt_token={token}", json=INPUT)
    assert streamed.json()[0] == key.id
    for elsewhere in ("/run/fal-ai/x/stream", f"/run/{FAST}", f"/queue/{FAST}", "/cdn/who", "/admin/who"):
        assert refused(await client.post(f"{elsewhere}?fal_jwt_token={token}", json=INPUT), 403)
    await keys.revoke(key.id)
    assert refused(await client.post(f"/run/{FAST}/stream?fal_jwt_token={token}", json=INPUT), 401)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        [],
        {"allowed_apps": []},
        {"allowed_apps": ["other"]},
        {"allowed_apps": "fooocus"},
        {"allowed_apps": [ALIAS], "token_expiration": 10**9},
        {"allowed_apps": [ALIAS], "token_expiration": "soon"},
        {"allowed_apps": [ALIAS], "token_expiration": True},
        {"allowed_apps": [ALIAS], "token_expiration": float("1e-400")},
    ],
)
async def test_a_token_is_for_what_there_is(client: httpx2.AsyncClient, keys: SqlKeys, asked: object) -> None:
    answer = await client.post("/rest/tokens/", json=asked, headers=await made(keys))
    assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")


async def test_a_storage_token_uploads_and_nothing_else(
    client: httpx2.AsyncClient, keys: SqlKeys, locked: Parts
) -> None:
    await made(keys)
    (key,) = await keys.all()
    token = Tokens.of(locked.settings).issue(key.id, Purpose.STORAGE, 60)
    headers = {"authorization": f"Bearer {token}"}
    assert (await client.post("/cdn/who", headers=headers)).json()[0] == key.id
    for elsewhere in ("/run/who", "/rest/storage/who", f"/run/{FAST}/stream", "/admin/who"):
        assert refused(await client.post(elsewhere, headers=headers), 403)


async def test_a_browser_of_a_listed_origin_may_ask_before_it_has_a_key(client: httpx2.AsyncClient) -> None:
    headers = {"origin": "https://app.example", "access-control-request-method": "POST"}
    assert (await client.options(f"/run/{FAST}", headers=headers)).status_code == 200
    answer = await client.post(f"/run/{FAST}", headers={"origin": "https://app.example"})
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert refused(answer, 401)


async def test_keys_need_a_store(parts: Parts) -> None:
    settings = parts.settings.model_copy(update={"keys": "required"})
    with pytest.raises(ValueError, match="keys"):
        create_app(Parts(settings, parts.ledger, parts.files, parts.dispatcher))
