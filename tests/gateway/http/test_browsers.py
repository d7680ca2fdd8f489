"""A web page cannot use a service that runs without keys on its reader's machine."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from gateway.app import Parts, create_app
from gateway.http.middleware import allowed_hosts
from gateway.settings import GatewaySettings
from tests.gateway.fakes import FAST, INPUT

LOCAL = "http://127.0.0.1:8000"


@pytest.fixture
async def client(parts: Parts) -> AsyncIterator[httpx2.AsyncClient]:
    settings = parts.settings.model_copy(update={"allowed_hosts": ("gpu.lan",)})
    app = create_app(Parts(settings, parts.ledger, parts.files, parts.dispatcher))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=LOCAL) as client:
        yield client


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "queue.fal.run", "gpu.lan:80"]
)
async def test_the_services_own_names_are_answered(client: httpx2.AsyncClient, host: str) -> None:
    assert (await client.get("/health", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "", "[::"],
)
async def test_a_rebound_name_is_not_answered(client: httpx2.AsyncClient, parts: Parts, host: str) -> None:
    answer = await client.post(f"/queue/{FAST}", json=INPUT, headers={"host": host})
    assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")
    assert not host or host not in answer.text
    assert await parts.ledger.depth() == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:3000"},  # another service of this machine
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_a_page_of_another_origin_draws_nothing(
    client: httpx2.AsyncClient, parts: Parts, headers: dict[str, str]
) -> None:
    """As a form would send it: no preflight asks before."""
    plain = {**headers, "content-type": "text/plain"}
    answer = await client.post(f"/queue/{FAST}", content='{"prompt": "x"}', headers=plain)
    assert (answer.status_code, answer.json()["error_type"]) == (403, "forbidden")
    assert (await client.get(f"/run/{FAST}?prompt=x", headers=headers)).status_code == 403
    assert await parts.ledger.depth() == 0


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": LOCAL},
        {"origin": "https://app.example", "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ],
)
async def test_programs_own_pages_and_listed_origins_may(client: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    assert (await client.post(f"/queue/{FAST}", json=INPUT, headers=headers)).status_code == 200


async def test_pictures_may_be_shown_anywhere(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/files/outputs/x.png", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 404


def test_with_keys_every_name_is_answered_unless_some_are_listed(settings: GatewaySettings) -> None:
    required = settings.model_copy(update={"keys": "required", "allowed_hosts": ()})
    assert allowed_hosts(required) is None
    listed = required.model_copy(update={"allowed_hosts": ("Images.example",), "public_url": "https://p.example:1"})
    assert {"images.example", "p.example", "localhost"} <= (allowed_hosts(listed) or frozenset())
