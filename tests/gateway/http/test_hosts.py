"""One port for all of fal's hosts: prefixes, Host headers, the proxy, and what they refuse (fal-protocol 1)."""

from dataclasses import replace

import httpx2
import pytest

from gateway.app import Parts, create_app
from gateway.http.hosts import HOSTS
from tests.gateway.fakes import FAST, INPUT, FakeRunner
from tests.gateway.http.conftest import serving

PROXY = "/api/fal/proxy"
EVIL = "http://169.254.169.254/latest/meta-data"


@pytest.mark.parametrize(
    ("host", "more"),
    [
        ("queue.fal.run", {"x-forwarded-proto": "https"}),
        ("queue.fal.run:443", {"x-forwarded-proto": "https"}),
        ("QUEUE.FAL.RUN", {"x-forwarded-proto": "HTTPS"}),
        ("queue.fal.run:8000", {}),
    ],
)
async def test_the_queues_host_submits_and_links_to_itself(
    client: httpx2.AsyncClient, host: str, more: dict[str, str]
) -> None:
    headers = {"host": host, **more}
    answer = await client.post(f"/{FAST}", json=INPUT, headers=headers)
    assert answer.status_code == 200
    body = answer.json()
    scheme = "https" if more else "http"
    assert body["status_url"] == f"{scheme}://{host}/{FAST}/requests/{body['request_id']}/status"
    status = await client.get(f"/{FAST}/requests/{body['request_id']}/status", headers=headers)
    assert (status.status_code, status.json()["status_url"]) == (202, body["status_url"])


async def test_the_run_host_runs(client: httpx2.AsyncClient, runner: FakeRunner, dispatched: None) -> None:
    headers = {"host": "fal.run", "x-forwarded-proto": "https"}
    answer = await client.post(f"/{FAST}", json=INPUT, headers=headers)
    assert (answer.status_code, answer.json()["seed"]) == (200, 7)
    assert runner.seen[0].base_url == "https://fal.run"


async def test_a_header_alone_makes_no_host_and_every_address_can_be_reached(parts: Parts, dispatched: None) -> None:
    """Plain HTTP with fal's Host header, as `curl -H` sends it to this port."""
    async with serving(parts) as address, httpx2.AsyncClient(base_url=address) as client:
        ran = (await client.post(f"/{FAST}", json=INPUT, headers={"host": "fal.run"})).json()
        assert ran["images"][0]["url"].startswith(f"{address}/files/outputs/")
        begun = (await client.post(f"/{FAST}", json=INPUT, headers={"host": "queue.fal.run"})).json()
        for url in (begun["status_url"], begun["response_url"]):
            assert url.startswith(f"{address}/queue/")
        assert (await client.get(begun["status_url"])).json()["request_id"] == begun["request_id"]
        granted = await client.post("/storage/upload/initiate", json={}, headers={"host": "rest.fal.ai"})
        assert (await client.put(granted.json()["upload_url"], content=b"x")).status_code == 200
        assert (await client.get(granted.json()["file_url"])).content == b"x"


async def test_a_path_without_prefix_is_a_sync_run(client: httpx2.AsyncClient, dispatched: None) -> None:
    answer = await client.post(f"/{FAST}", json=INPUT)
    assert (answer.status_code, answer.json()["seed"]) == (200, 7)


async def test_a_prefix_counts_on_any_host(client: httpx2.AsyncClient) -> None:
    headers = {"host": "fal.run", "x-forwarded-proto": "https"}
    answer = await client.post(f"/queue/{FAST}", json=INPUT, headers=headers)
    assert answer.json()["status_url"].startswith("https://fal.run/queue/fal-ai/")


@pytest.mark.parametrize("host", sorted(HOSTS))
async def test_the_services_own_routes_stand_on_fals_hosts_too(client: httpx2.AsyncClient, host: str) -> None:
    assert (await client.get("/health", headers={"host": host})).json() == {"status": "ok"}
    missing = await client.get(f"/files/outputs/{'0' * 8}/x.png", headers={"host": host})
    assert missing.json()["detail"] == "File not found"


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("rest.fal.ai", "/storage/upload/initiate"),
        ("rest.alpha.fal.ai", "/storage/auth/token"),
        ("v3.fal.media", "/files/upload"),
        ("testserver", "/cdn/files/upload"),
    ],
)
async def test_storage_is_reached_by_host_and_by_prefix(client: httpx2.AsyncClient, host: str, path: str) -> None:
    answer = await client.post(path, json={}, headers={"host": host, "x-forwarded-proto": "https"})
    root = "https://v3.fal.media" if "fal" in host else "http://testserver/cdn"
    urls = [value for value in answer.json().values() if value.startswith("http")]
    assert answer.status_code == 200
    assert urls
    assert all(url.startswith(root) for url in urls)


async def test_the_proxy_maps_submit_status_result_and_cancel(client: httpx2.AsyncClient) -> None:
    def target(rest: str) -> dict[str, str]:
        return {"x-fal-target-url": f"https://queue.fal.run/{FAST}{rest}"}

    submitted = await client.post(PROXY, json=INPUT, headers=target(""))
    assert submitted.status_code == 200
    request_id = submitted.json()["request_id"]
    assert submitted.json()["status_url"] == f"http://testserver:8000/queue/{FAST}/requests/{request_id}/status"
    status = await client.get(PROXY, headers=target(f"/requests/{request_id}/status?logs=1"))
    assert (status.status_code, status.json()["status"]) == (202, "IN_QUEUE")
    assert (await client.get(PROXY, headers=target(f"/requests/{request_id}"))).status_code == 400
    assert (await client.put(PROXY, headers=target(f"/requests/{request_id}/cancel"))).status_code == 202


async def test_the_proxy_takes_the_query_of_its_target(client: httpx2.AsyncClient) -> None:
    headers = {"x-fal-target-url": f"https://queue.fal.run/{FAST}?fal_webhook=ftp%3A%2F%2Fexample.org"}
    answer = await client.post(PROXY, json=INPUT, headers=headers)
    assert (answer.status_code, "fal_webhook" in answer.json()["detail"]) == (400, True)


async def test_the_proxy_runs(client: httpx2.AsyncClient, dispatched: None) -> None:
    answer = await client.post(PROXY, json=INPUT, headers={"x-fal-target-url": f"https://fal.run/{FAST}"})
    assert (answer.status_code, answer.json()["seed"]) == (200, 7)


@pytest.mark.parametrize(
    "target",
    [
        EVIL,
        "https://fal.run.evil.example/fal-ai/fooocus",
        "https://fal.run@evil.example/fal-ai/fooocus",
        "https://evil.example/fal.run",
        "//fal.run/fal-ai/fooocus",
        "file://fal.run/etc/passwd",
        "https://[fal.run/",
        "",
    ],
)
async def test_the_proxy_refuses_what_is_not_fals(client: httpx2.AsyncClient, target: str) -> None:
    answer = await client.get(PROXY, headers={"x-fal-target-url": target})
    assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")


async def test_the_proxy_without_a_target_is_refused(client: httpx2.AsyncClient) -> None:
    assert (await client.post(PROXY, json=INPUT)).status_code == 400


@pytest.mark.parametrize("method", ["DELETE", "PATCH"])
async def test_the_proxy_takes_three_methods(client: httpx2.AsyncClient, method: str) -> None:
    answer = await client.request(method, PROXY, headers={"x-fal-target-url": f"https://fal.run/{FAST}"})
    assert answer.status_code == 405


async def test_a_malformed_host_is_refused(client: httpx2.AsyncClient) -> None:
    answer = await client.post(f"/queue/{FAST}", json=INPUT, headers={"host": 'evil"><script>'})
    assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")


async def test_a_public_url_stands_in_all_addresses(parts: Parts, dispatched: None) -> None:
    settings = parts.settings.model_copy(
        update={"public_url": "https://images.example.org/", "allowed_hosts": ("10.0.0.1",)}
    )
    app = create_app(replace(parts, settings=settings))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://10.0.0.1") as client:
        body = (await client.post(f"/{FAST}", json=INPUT, headers={"host": "queue.fal.run"})).json()
        ran = (await client.post(f"/run/{FAST}", json=INPUT)).json()
    assert body["status_url"].startswith("https://images.example.org/queue/fal-ai/")
    assert ran["images"][0]["url"].startswith("https://images.example.org/files/")


@pytest.mark.parametrize("path", [f"/queue/{FAST}/", f"/run/{FAST}/", f"/{FAST}/"])
async def test_a_slash_at_the_end_is_no_redirect(client: httpx2.AsyncClient, path: str, dispatched: None) -> None:
    assert (await client.post(path, json=INPUT)).status_code == 200


@pytest.mark.parametrize("path", ["/queue", "/run", "/files", "/files/"])
async def test_nothing_redirects(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("path", ["/health/", "//health", "/openapi.json/", "//"])
async def test_slashes_too_many_mean_nothing(client: httpx2.AsyncClient, path: str) -> None:
    plain = await client.get(f"http://testserver:8000{path}")
    assert plain.status_code == 200


async def test_slashes_too_many_mean_nothing_on_the_way_of_a_request(client: httpx2.AsyncClient) -> None:
    root = "http://testserver:8000"
    submitted = await client.post(f"{root}//queue//{FAST}/", json=INPUT)
    request_id = submitted.json()["request_id"]
    one = f"//queue//{FAST}//requests/{request_id}"
    assert (await client.get(f"{root}{one}/status/")).json()["status"] == "IN_QUEUE"
    assert (await client.get(f"{root}{one}/")).json()["detail"] == "Request is still in progress"
    headers = {"x-fal-target-url": f"https://queue.fal.run//{FAST}/requests/{request_id}/status/"}
    assert (await client.get(PROXY + "/", headers=headers)).status_code == 202
    assert (await client.put(f"{root}{one}/cancel/")).status_code == 202
