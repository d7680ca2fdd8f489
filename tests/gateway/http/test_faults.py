"""What is wrong is told in fal's shapes with an id, and the next request is answered (fal-protocol 8)."""

import gzip
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from gateway.app import Parts, create_app
from gateway.http.request_body import MOST_VALUES
from gateway.ledger.store import SqlLedger
from gateway.settings import GatewaySettings
from tests.gateway.fakes import FAST, INPAINT, INPUT

MAX_BODY = 100_000

pytestmark = pytest.mark.usefixtures("dispatched")


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"max_body_bytes": MAX_BODY})


async def still_answers(client: httpx2.AsyncClient) -> None:
    assert (await client.post(f"/run/{FAST}", json=INPUT)).status_code == 200


def is_platform_fault(answer: httpx2.Response, status: int) -> bool:
    body = answer.json()
    return (
        answer.status_code == status
        and isinstance(body["detail"], str)
        and body["message"] == body["detail"]
        and answer.headers["x-fal-error-type"] == body["error_type"]
    )


@pytest.mark.parametrize("surface", ["run", "queue"])
@pytest.mark.parametrize(
    ("endpoint", "body", "loc", "type_"),
    [
        (FAST, {}, ["body", "prompt"], "missing"),
        (FAST, {**INPUT, "format": "bmp"}, ["body", "format"], "one_of"),
        (FAST, {**INPUT, "image_size": {"width": 50, "height": 512}}, None, "greater_than_equal"),
        (INPAINT, {"inpaint_image_url": "data:image/png;base64,AAAA"}, None, "unsupported_image_format"),
        (
            f"{FAST}/image-to-image",
            {**INPUT, "image_url": "data:image/png;base64,@@@"},
            ["body", "image_url"],
            "image_load_error",
        ),
        (f"{FAST}/image-to-image", {**INPUT, "image_url": "data:,plain text"}, None, "unsupported_image_format"),
    ],
)
async def test_a_bad_input_is_a_list_of_faults(
    client: httpx2.AsyncClient,
    surface: str,
    endpoint: str,
    body: dict[str, Any],
    loc: list[str | int] | None,
    type_: str,
) -> None:
    answer = await client.post(f"/{surface}/{endpoint}", json=body)
    assert answer.status_code == 422
    entry = answer.json()["detail"][0]
    assert entry["type"] == type_
    assert entry["loc"][0] == "body"
    assert loc is None or entry["loc"] == loc
    assert answer.json()["message"]
    assert answer.headers["x-fal-retryable"] == "false"
    await still_answers(client)


@pytest.mark.parametrize("body", [b"", b"  ", b"{}"])
async def test_an_empty_body_is_an_empty_input(client: httpx2.AsyncClient, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    assert (await client.post("/run/fal-ai/fooocus", content=body, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "body", [b"{", b"\xff\xfe", b"[" * MOST_VALUES, b'{"seed": ' + b"1" * 5000 + b"}", b"{'a': 1}"], ids=len
)
async def test_broken_json_is_a_422(client: httpx2.AsyncClient, body: bytes) -> None:
    answer = await client.post(f"/queue/{FAST}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    (entry,) = answer.json()["detail"]
    assert (entry["type"], entry["loc"]) == ("json_invalid", ["body"])
    await still_answers(client)


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"3"])
async def test_json_that_is_no_object_is_a_422(client: httpx2.AsyncClient, body: bytes) -> None:
    answer = await client.post(f"/queue/{FAST}", content=body)
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body"])


async def test_a_body_of_too_many_values_is_not_parsed(client: httpx2.AsyncClient) -> None:
    body = b'{"prompt": "a lake", "more": [' + b"{}," * MOST_VALUES + b"{}]}"
    answer = await client.post(f"/queue/{FAST}", content=body)
    assert is_platform_fault(answer, 413)
    assert str(MOST_VALUES) in answer.json()["detail"]
    prompt = "a, lake, " * 1000
    assert (await client.post(f"/queue/{FAST}", json={**INPUT, "prompt": prompt})).status_code == 200


@pytest.mark.parametrize("path", ["/openai/v1/images/generations", "/mcp"])
async def test_nor_is_one_of_another_protocol(client: httpx2.AsyncClient, path: str) -> None:
    body = b'{"prompt": "a lake", "more": [' + b"{}," * MOST_VALUES + b"{}]}"
    answer = await client.post(path, content=body, headers={"accept": "application/json, text/event-stream"})
    assert answer.status_code == 413
    assert str(MOST_VALUES) in answer.text


async def test_a_body_above_the_cap_is_a_413_over_a_real_connection(server: str) -> None:
    async with httpx2.AsyncClient(base_url=server) as client:
        for size in (MAX_BODY + 1, 3 * MAX_BODY):
            answer = await client.post(f"/queue/{FAST}", content=b'{"prompt": "' + b"x" * size)
            assert is_platform_fault(answer, 413)
            await still_answers(client)


async def test_a_body_far_above_the_cap_is_not_read_to_its_end(client: httpx2.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * MAX_BODY:
            sent += MAX_BODY
            yield b"x" * MAX_BODY

    answer = await client.post(f"/run/{FAST}", content=endless())
    assert is_platform_fault(answer, 413)
    assert sent <= 6 * MAX_BODY
    declared = await client.post(f"/run/{FAST}", content=b"", headers={"content-length": "9" * 40})
    assert is_platform_fault(declared, 413)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/run/fal-ai/no-such-model", 404),
        ("POST", "/queue/fal-ai/no-such-model", 404),
        ("POST", "/fal-ai/no-such-model/stream", 404),
        ("POST", "/queue/fal-ai/fooocus/nothing", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/files/inputs/00000000-0000-4000-8000-000000000000/0.png", 404),
        ("GET", f"/queue/{FAST}", 405),
        ("DELETE", f"/run/{FAST}", 405),
        ("POST", f"/queue/{FAST}/requests/some-id/status", 405),
        ("GET", f"/queue/{FAST}/requests/some-id/cancel", 405),
        ("POST", "/health", 405),
    ],
)
async def test_unknown_routes_and_methods_have_fals_shape(
    client: httpx2.AsyncClient, method: str, path: str, status: int
) -> None:
    assert is_platform_fault(await client.request(method, path), status)


async def test_a_wrong_method_is_told_the_right_one(client: httpx2.AsyncClient) -> None:
    answer = await client.get(f"/queue/{FAST}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["detail"] == "Method Not Allowed; use POST"


@pytest.mark.parametrize(
    ("method", "path", "methods"),
    [
        ("POST", f"/queue/{FAST}/requests/some-id/cancel", "PUT"),
        ("POST", f"/queue/{FAST}/requests/some-id/status", "GET"),
        ("PUT", "/requests/some-id", "DELETE, GET"),
        ("HEAD", f"/run/{FAST}", "GET, POST"),
        ("PUT", f"/run/{FAST}", "GET, POST"),
    ],
)
async def test_a_wrong_method_is_told_all_that_the_path_has(
    client: httpx2.AsyncClient, method: str, path: str, methods: str
) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, methods)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("fal-ai/fast-foocus-sdxl", FAST),
        ("fal-ai/fast-fooocus-sdxl/image-2-image", f"{FAST}/image-to-image"),
        ("fal-ai/fooocus/inpant", "fal-ai/fooocus/inpaint"),
        ("falai/Fooocus", "fal-ai/fooocus"),
        ("fast-fooocus-sdxl", FAST),
    ],
)
async def test_a_misspelt_endpoint_is_told_the_nearest(client: httpx2.AsyncClient, given: str, meant: str) -> None:
    answer = await client.post(f"/run/{given}", json=INPUT)
    assert (answer.status_code, answer.json()["error_type"]) == (404, "bad_request")
    assert answer.json()["detail"] == f"Application '{given}' not found; did you mean '{meant}'?"
    models = await client.get("/api/v1/models", params={"endpoint_id": given})
    assert models.json()["detail"] == f"Model '{given}' not found; did you mean '{meant}'?"


async def test_of_an_endpoint_near_to_none_it_is_told_where_they_are_listed(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/run/fal-ai/flux", json=INPUT)
    assert answer.json()["detail"] == "Application 'fal-ai/flux' not found; GET /api/v1/models lists what there is"
    assert (await client.get("/api/v1/models")).status_code == 200


async def test_every_answer_has_an_id(client: httpx2.AsyncClient) -> None:
    answers = [
        await client.get("/"),
        await client.get("/health"),
        await client.get("/nowhere"),
        await client.post(f"/run/{FAST}", content=b"{"),
        await client.post(f"/run/{FAST}", json=INPUT),
        await client.options(f"/run/{FAST}", headers=PREFLIGHT),
    ]
    ids = [answer.headers["x-fal-request-id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    assert all(len(found) == 36 for found in ids)


async def test_a_fault_of_ours_tells_no_internals(
    client: httpx2.AsyncClient, ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*args: object) -> int:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(ledger, "submit", broken)
    answer = await client.post(f"/queue/{FAST}", json=INPUT, headers={"origin": "https://app.example"})
    assert is_platform_fault(answer, 500)
    assert "secret" not in answer.text
    assert "/secret/path" in caplog.text
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["x-fal-request-id"]


async def test_a_key_is_not_looked_at_where_none_is_required(client: httpx2.AsyncClient) -> None:
    for key in ("Key any:thing", "Bearer token", ""):
        assert (await client.post(f"/run/{FAST}", json=INPUT, headers={"authorization": key})).status_code == 200


PREFLIGHT = {
    "origin": "https://app.example",
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-fal-target-url,x-app-fal-disable-fallback",
}


async def test_a_browser_may_call_from_a_listed_origin(client: httpx2.AsyncClient) -> None:
    preflight = await client.options("/api/fal/proxy", headers=PREFLIGHT)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    allowed = {name.strip() for name in preflight.headers["access-control-allow-headers"].split(",")}
    assert set(PREFLIGHT["access-control-request-headers"].split(",")) <= allowed
    assert {"GET", "POST", "PUT", "OPTIONS"} <= set(preflight.headers["access-control-allow-methods"].split(", "))
    answer = await client.post(f"/run/{FAST}", json=INPUT, headers={"origin": "https://app.example"})
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"x-fal-request-id", "x-fal-request-timeout-type", "x-fal-error-type", "etag"} <= set(exposed)


async def test_addresses_are_those_of_whoever_asks(client: httpx2.AsyncClient, parts: Parts) -> None:
    transport = httpx2.ASGITransport(app=create_app(parts))
    async with httpx2.AsyncClient(transport=transport, base_url="http://other:1") as other:
        body = (await other.post(f"/queue/{FAST}", json=INPUT)).json()
    assert body["status_url"].startswith("http://other:1/")
    found = await client.get(f"/queue/{FAST}/requests/{body['request_id']}/status")
    assert found.json()["status_url"].startswith("http://testserver:8000/")


@pytest.mark.parametrize("surface", ["run", "queue"])
@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (gzip.compress(b'{"prompt": "x"}', mtime=0), {"content-encoding": "gzip"}, "compressed (gzip)"),
        (gzip.compress(b'{"prompt": "x"}', mtime=0), {}, "compressed (gzip)"),
        (b"\x8b\x08\x80", {"content-encoding": "br"}, "compressed (br)"),
        (b'--x\r\ncontent-disposition: form-data; name="prompt"\r\n\r\nx\r\n--x--\r\n', {}, "a form"),
        (b"--x\r\n", {"content-type": "multipart/form-data; boundary=x"}, "a form"),
        (b"prompt=x", {"content-type": "application/x-www-form-urlencoded"}, "a form"),
        ('{"prompt": "café"}'.encode("latin-1"), {}, "UTF-8"),
        (b"{'a': 1}", {}, "not valid JSON"),
    ],
)
async def test_a_body_that_is_no_json_is_told_what_it_is(
    client: httpx2.AsyncClient, surface: str, body: bytes, headers: dict[str, str], words: str
) -> None:
    answer = await client.post(f"/{surface}/{FAST}", content=body, headers=headers)
    (entry,) = answer.json()["detail"]
    assert (answer.status_code, entry["type"]) == (422, "json_invalid")
    assert words in entry["msg"]


@pytest.mark.parametrize("endpoint", [FAST, "fal-ai/fooocus"])
async def test_an_input_inside_of_an_input_is_told_so(client: httpx2.AsyncClient, endpoint: str) -> None:
    answer = await client.post(f"/queue/{endpoint}", json={"input": INPUT, "webhook_url": "https://example.org"})
    (entry,) = answer.json()["detail"]
    assert (answer.status_code, entry["loc"]) == (422, ["body", "input"])
    assert "without an object `input`" in entry["msg"]


async def test_a_field_called_input_beside_others_is_unknown_as_any(client: httpx2.AsyncClient) -> None:
    answer = await client.post(f"/queue/{FAST}", json={**INPUT, "input": {}})
    assert "unknown:input" in answer.headers["x-fooocus-inactive"]


@pytest.mark.parametrize(
    ("endpoint", "field", "value", "nearest"),
    [
        ("fal-ai/fooocus", "styles", ["Foocus V2"], "'Fooocus V2'"),
        ("fal-ai/fooocus", "styles", ["sai_anime"], "'SAI Anime'"),
        ("fal-ai/fooocus", "performance", "extreme-speed", "'Extreme Speed'"),
        (FAST, "image_size", "landscape_4_4", "'landscape_4_3'"),
    ],
)
async def test_a_misspelt_value_is_told_the_nearest(
    client: httpx2.AsyncClient, endpoint: str, field: str, value: Any, nearest: str
) -> None:
    answer = await client.post(f"/queue/{endpoint}", json={**INPUT, field: value})
    (entry,) = answer.json()["detail"]
    assert entry["type"] == "one_of"
    assert "did you mean " in entry["msg"]
    assert nearest in entry["msg"].partition("did you mean ")[2]


@pytest.mark.parametrize(
    ("endpoint", "sent", "field"),
    [(FAST, "promt", "prompt"), (FAST, "Prompt", "prompt"), (INPAINT, "image_url", "inpaint_image_url")],
)
async def test_a_misspelt_field_is_told_where_it_is_missing(
    client: httpx2.AsyncClient, endpoint: str, sent: str, field: str
) -> None:
    answer = await client.post(f"/queue/{endpoint}", json={sent: "data:,x"})
    (entry,) = answer.json()["detail"]
    assert (answer.status_code, entry["loc"], entry["type"]) == (422, ["body", field], "missing")
    assert entry["msg"] == f"Field required (did you mean {field}? the request has {sent})"


async def test_a_value_near_to_nothing_is_told_no_nearest(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/queue/fal-ai/fooocus", json={"styles": ["zzzz"]})
    assert "did you mean" not in answer.json()["detail"][0]["msg"]
