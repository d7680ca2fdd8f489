"""fal's platform routes: the list of models, signed addresses of files, who may read a file."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from jsonschema import Draft202012Validator
from starlette.routing import Route

from gateway.app import Parts, create_app
from gateway.endpoints import ENDPOINTS
from gateway.files.base import FileTerms
from gateway.keys.base import KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from gateway.keys.tokens import Purpose, Tokens, secret_of
from gateway.policy import Acl
from tests.gateway.fakes import FAST
from tests.gateway.http.storing import PNG

ROOT = "/api/v1"
ACL = f"{ROOT}/storage/files/acl"
SIGN = f"{ROOT}/storage/files/sign"
OUTPUT = "outputs/00000000-0000-4000-8000-000000000000/0.png"
ADDRESS = f"http://testserver/files/{OUTPUT}"


@pytest.mark.parametrize(("host", "path"), [("testserver", f"{ROOT}/models"), ("api.fal.ai", "/v1/models")])
async def test_the_models_are_the_six_endpoints(client: httpx2.AsyncClient, host: str, path: str) -> None:
    answer = await client.get(path, headers={"host": host})
    body = answer.json()
    assert [model["endpoint_id"] for model in body["models"]] == [*ENDPOINTS]
    assert (body["next_cursor"], body["has_more"]) == (None, False)
    for model in body["models"]:
        told = model["metadata"]
        assert told["status"] == "active"
        assert {"display_name", "category", "description", "tags", "updated_at", "thumbnail_url", "model_url"} <= {
            *told
        }
        assert "openapi" not in model


async def test_the_services_document_describes_them(client: httpx2.AsyncClient, parts: Parts) -> None:
    document = (await client.get("/openapi.json")).json()
    routes = [route for route in create_app(parts).router.routes if isinstance(route, Route)]
    served = {(route.path, method.lower()) for route in routes for method in route.methods or ()}
    platform = {one for one in served if one[0].startswith(f"{ROOT}/") and one[1] != "head"}
    described = {(path, method) for path, item in document["paths"].items() for method in item}
    assert len(platform) == 4
    assert platform == {one for one in described if one[0].startswith(f"{ROOT}/")}
    answer = document["paths"][f"{ROOT}/models"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    schema = Draft202012Validator({**answer, "components": document["components"]})
    schema.validate((await client.get(f"{ROOT}/models", params={"expand": "openapi-3.0"})).json())
    assert not schema.is_valid({"models": [{"endpoint_id": FAST}], "next_cursor": None, "has_more": False})


async def test_models_come_in_pages(client: httpx2.AsyncClient) -> None:
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for more in (True, True, False):
        page = (await client.get(f"{ROOT}/models", params={"limit": 2, **cursor})).json()
        seen += [model["endpoint_id"] for model in page["models"]]
        assert page["has_more"] is more
        cursor = {"cursor": page["next_cursor"]}
    assert seen == [*ENDPOINTS]


async def test_one_model_with_its_schema(client: httpx2.AsyncClient) -> None:
    query = {"endpoint_id": FAST, "expand": "openapi-3.0"}
    (model,) = (await client.get(f"{ROOT}/models", params=query)).json()["models"]
    document = model["openapi"]
    assert document["openapi"].startswith("3.0")
    body = document["paths"][f"/{FAST}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    asked = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    assert {"prompt", "image_size", "seed"} <= {*asked["properties"]}
    assert document["servers"] == [{"url": "http://testserver:8000/queue"}]
    assert not list(_beyond_3_0(document))


def _beyond_3_0(value: Any) -> Any:
    if isinstance(value, list):
        for each in value:
            yield from _beyond_3_0(each)
    elif isinstance(value, dict):
        if isinstance(value.get("type"), list) or value.get("type") == "null":
            yield value
        for each in value.values():
            yield from _beyond_3_0(each)


async def test_a_schema_asked_for_at_fals_host_names_fals_queue(client: httpx2.AsyncClient) -> None:
    headers = {"host": "api.fal.ai", "x-forwarded-proto": "https"}
    query = {"endpoint_id": FAST, "expand": "openapi-3.0"}
    (model,) = (await client.get("/v1/models", params=query, headers=headers)).json()["models"]
    assert model["openapi"]["servers"] == [{"url": "https://queue.fal.run"}]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"q": "inpaint"}, 1),
        ({"category": "text-to-image"}, 2),
        ({"category": "image-to-image"}, 4),
        ({"category": "text-to-video"}, 0),
        ({"status": "deprecated"}, 0),
        ({"endpoint_id": [FAST, "fal-ai/fooocus"]}, 2),
    ],
)
async def test_models_are_searched(client: httpx2.AsyncClient, query: dict[str, Any], count: int) -> None:
    assert len((await client.get(f"{ROOT}/models", params=query)).json()["models"]) == count


@pytest.mark.parametrize(
    ("query", "status"),
    [({"endpoint_id": "fal-ai/flux"}, 404), ({"expand": "x"}, 400), ({"limit": "0"}, 400), ({"cursor": "x"}, 400)],
)
async def test_what_makes_no_sense_is_told_in_both_shapes(
    client: httpx2.AsyncClient, query: dict[str, str], status: int
) -> None:
    answer = await client.get(f"{ROOT}/models", params=query)
    body = answer.json()
    assert (answer.status_code, body["error"]["message"]) == (status, body["detail"])
    assert body["error"]["type"] == ("not_found" if status == 404 else "validation_error")


@dataclass
class Locked:
    """An app that keeps files to their keys; headers of the owner of `OUTPUT` and of another key."""

    client: httpx2.AsyncClient
    keys: SqlKeys
    parts: Parts
    owner: dict[str, str]
    owner_id: str
    other: dict[str, str]
    other_id: str

    async def reads(self, url: str, headers: dict[str, str] | None = None) -> int:
        return (await self.client.get(url, headers=headers)).status_code


@pytest.fixture
async def locked(parts: Parts) -> AsyncIterator[Locked]:
    keys = await SqlKeys.open(parts.settings.ledger_address)
    changed = {"keys": "required", "allowed_hosts": (), "files_access": "key"}
    parts = replace(parts, settings=parts.settings.model_copy(update=changed), keys=keys)
    owner, other = [await keys.create("app", (Scope.RUN, Scope.STORAGE), KeyLimits()) for _ in range(2)]
    await parts.files.put(OUTPUT, PNG, "image/png", FileTerms(owner.key.id, file_name="fox.png"))
    transport = httpx2.ASGITransport(app=create_app(parts))
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        headers = [{"authorization": f"Key {each.credentials}"} for each in (owner, other)]
        yield Locked(client, keys, parts, headers[0], owner.key.id, headers[1], other.key.id)
    await keys.close()


async def signing(locked: Locked, seconds: Any = 3600, **more: Any) -> httpx2.Response:
    return await locked.client.post(
        SIGN, params={"url": ADDRESS}, json={"expiration_seconds": seconds}, headers=locked.owner, **more
    )


async def test_a_signed_address_opens_a_private_file_without_a_key(locked: Locked) -> None:
    assert await locked.reads(ADDRESS) == 404
    url = (await signing(locked)).json()["signed_url"]
    assert url.startswith(f"{ADDRESS}?identity=")
    answer = await locked.client.get(url)
    assert (answer.status_code, answer.content) == (200, PNG)
    assert answer.headers["cache-control"].startswith("private")
    assert await locked.reads(url, locked.other) == 200


async def test_a_signature_is_for_one_file_for_its_time_and_of_a_key_that_counts(locked: Locked) -> None:
    another = OUTPUT.replace("/0.png", "/1.png")
    await locked.parts.files.put(another, PNG, "image/png", FileTerms(locked.owner_id))
    query = urlsplit((await signing(locked)).json()["signed_url"]).query
    assert await locked.reads(f"/files/{another}?{query}") == 404
    assert await locked.reads(f"{ADDRESS}?identity={query[9:-3]}") == 404
    past = Tokens(secret_of(locked.parts.settings), clock=lambda: 0.0)
    token = past.seal({"file": OUTPUT, "by": locked.owner_id}, Purpose.FILE, 3600)
    assert await locked.reads(f"{ADDRESS}?identity={token}") == 404
    await locked.keys.revoke(locked.owner_id)
    assert await locked.reads(f"{ADDRESS}?{query}") == 404


@pytest.mark.parametrize("seconds", [0, -1, 604801, "3600", 1.5, None])
async def test_an_address_is_signed_for_seven_days_at_most(locked: Locked, seconds: Any) -> None:
    assert (await signing(locked, 604800)).status_code == 200
    answer = await signing(locked, seconds)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "validation_error")


@pytest.mark.parametrize(("method", "path"), [("POST", SIGN), ("GET", ACL), ("PUT", ACL)])
async def test_only_who_has_a_file_shares_it(locked: Locked, method: str, path: str) -> None:
    body = {"expiration_seconds": 60, "default": "allow"}

    async def asked(headers: dict[str, str], url: str) -> int:
        return (await locked.client.request(method, path, params={"url": url}, json=body, headers=headers)).status_code

    assert await asked(locked.owner, ADDRESS) == 200
    assert await asked(locked.other, ADDRESS) == 404
    assert await asked({}, ADDRESS) == 401
    assert await asked(locked.owner, ADDRESS.replace("/0.png", "/7.png")) == 404
    assert await asked(locked.owner, "https://example.org/files/" + OUTPUT) == 404
    assert await asked(locked.owner, ADDRESS + "?a=b") == 400
    only_run = await locked.keys.create("app", (Scope.RUN,), KeyLimits())
    assert await asked({"authorization": f"Key {only_run.credentials}"}, ADDRESS) == 403


async def test_an_acl_is_told_replaced_and_acts(locked: Locked) -> None:
    async def acl(method: str, **body: Any) -> Any:
        answer = await locked.client.request(
            method, ACL, params={"url": ADDRESS}, headers=locked.owner, json=body or None
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert await acl("GET") == {"default": "hide", "rules": []}  # as the service keeps files
    rule = {"user": locked.other_id, "decision": "allow"}
    unknown = {"user": "nobody", "decision": "allow"}
    assert await acl("PUT", default="forbid", rules=[rule, unknown]) == {"default": "forbid", "rules": [rule]}
    assert await acl("GET") == {"default": "forbid", "rules": [rule]}
    assert [await locked.reads(ADDRESS, headers) for headers in (locked.other, locked.owner, {})] == [200, 200, 403]
    info = await locked.parts.files.stat(OUTPUT)
    assert info is not None
    assert (info.terms.file_name, info.content_type, info.size) == ("fox.png", "image/png", len(PNG))
    assert (await acl("PUT", default="hide"))["rules"] == []
    assert await locked.reads(ADDRESS, locked.other) == 404


@pytest.mark.parametrize("body", [{}, {"default": "open"}, {"default": "hide", "rules": [{"user": "a"}]}])
async def test_an_acl_that_makes_no_sense_changes_nothing(locked: Locked, body: dict[str, Any]) -> None:
    answer = await locked.client.put(ACL, params={"url": ADDRESS}, json=body, headers=locked.owner)
    assert answer.status_code == 400
    info = await locked.parts.files.stat(OUTPUT)
    assert info is not None
    assert info.terms.acl is None


async def test_without_keys_everybody_signs(client: httpx2.AsyncClient, parts: Parts) -> None:
    await parts.files.put(OUTPUT, PNG, "image/png", FileTerms(acl=Acl(default="hide")))
    address = f"http://testserver:8000/files/{OUTPUT}"
    answer = await client.post(SIGN, params={"url": address}, json={"expiration_seconds": 60})
    assert (await client.get(answer.json()["signed_url"])).content == PNG
