"""`serve_config.yaml` on several machines: it comes up, 200 requests of every kind are answered once each, the logs of
all stages name a request, and nothing of ours shows a secret."""

import asyncio
from collections import Counter

import httpx2
import pytest

from tests.deployments.fakes import wait_until
from tests.integration.calls import FAST, FAST_IMAGE_TO_IMAGE, UPSCALE_OR_VARY, pixels
from tests.machines.asks import ENLARGED, SIDE, mixed, through_all_stages
from tests.machines.config import scale
from tests.machines.load import Load, Told
from tests.machines.logs import DEPLOYMENTS, lines, tellers
from tests.machines.node import program
from tests.machines.staged import Machines

PATIENCE_S = 360.0
LOGGED_S = 90.0  # of a receiver whose name nobody can tell
# its processes are told the password as an argument, and its dashboard shows how each was started
RAYS_OWN = {("redis", "/nodes?view=summary")}
SHOWN = ("/api/serve/applications/", "/nodes?view=summary", "/logical/actors", "/api/v0/actors?detail=true")


@pytest.fixture(scope="module", autouse=True)
def _deployed(machines: Machines) -> None:
    content = machines.production()
    scale(content, 2, 2)  # the first start of more would take most of the cores that all machines here share
    machines.deploy(content)


@pytest.mark.usefixtures("clients")
async def test_two_hundred_mixed_requests_are_answered_once_each(machines: Machines, key: str) -> None:
    asks = mixed()
    load = Load(key, PATIENCE_S)
    told = await load.of(asks)
    print(f"200 in {max(one.ended_at for one in told) - min(one.submitted_at for one in told):.0f} s; {load.refusals}")
    kept = [one for one in told if one.ask.way != "cancel"]
    assert [one.refused for one in kept if one.refused] == []
    telling = [one for one in kept if one.ask.endpoint in (FAST, FAST_IMAGE_TO_IMAGE)]  # fal's others do not tell it
    assert [one.seed for one in telling] == [one.ask.arguments["seed"] for one in telling]
    urls = [image["url"] for one in kept for image in one.body["images"]]
    assert len({*urls}) == len(urls) == len(kept)
    check_cancels(machines, [one for one in told if one.ask.way == "cancel"])
    rows = machines.rows("id, state, attempt, retries, crashes")
    assert len(rows) == len({row[0] for row in rows}) == len(asks)
    assert {one.request_id for one in told if one.request_id} <= {row[0] for row in rows}
    assert Counter(row[1] for row in rows) == {"done": len(asks)}
    assert {row[2:] for row in rows} <= {(1, 0, 0), (0, 0, 0)}  # nothing was drawn twice; some were cancelled before
    check_pictures(kept)
    assert len([node for node, number in machines.replicas("Gateway").items() if number]) == 2
    assert len([node for node, number in machines.replicas("Diffuser").items() if number]) == 2


def check_cancels(machines: Machines, told: list[Told]) -> None:
    """Each is cancelled, or was drawn before it was heard."""
    outcomes = dict(machines.rows("id, outcome", "id = ANY(%s)", [[one.request_id for one in told]]))
    for one in told:
        assert (one.body is None) == (outcomes[one.request_id] != "ok"), (one, outcomes[one.request_id])


def check_pictures(told: list[Told]) -> None:
    """One of each endpoint can be fetched from any node."""
    seen = {one.ask.endpoint: one for one in told}
    for endpoint, one in seen.items():
        answer = httpx2.get(one.body["images"][0]["url"], trust_env=False, timeout=30)
        assert answer.status_code == 200
        side = ENLARGED if endpoint == UPSCALE_OR_VARY else SIDE
        assert pixels(answer.content).shape == (side, side, 3), endpoint


@pytest.mark.usefixtures("clients")
async def test_a_requests_id_is_in_the_logs_of_all_seven_deployments(machines: Machines, key: str) -> None:
    (told,) = await Load(key, PATIENCE_S).of([through_all_stages(seed=1000)])
    assert told.refused is None
    await asyncio.to_thread(wait_until, lambda: tellers(machines, told.request_id) == DEPLOYMENTS, LOGGED_S)
    found = [line for line in lines(machines) if line.told.get("request_id") == told.request_id]
    assert {line.node[:3] for line in found} == {"cpu", "gpu"}
    assert {line.told["endpoint"] for line in found if "transition" in line.told} == {told.ask.endpoint}
    await asyncio.to_thread(wait_until, lambda: _webhook_is_told(machines, told.request_id), LOGGED_S)


def _webhook_is_told(machines: Machines, request_id: str) -> bool:
    messages = [line.told["message"] for line in lines(machines, "Dispatcher")]
    return any("webhook" in message and request_id in message for message in messages)


def test_neither_the_config_nor_the_dashboard_nor_a_log_shows_a_secret(machines: Machines, key: str) -> None:
    shown = {path: machines.dashboard(path) for path in SHOWN}
    shown["serve config"] = machines.head.run(program("serve"), "config")
    assert "fooocus" in shown["serve config"]
    assert "Diffuser" in shown["/api/serve/applications/"]
    for node in machines.nodes:
        logs = [file for file in node.logs.rglob("*") if file.is_file()]
        assert logs
        shown |= {str(file.relative_to(machines.home)): file.read_text(errors="replace") for file in logs}
    secrets = {**machines.secrets, "a client's key": key.partition(":")[2]}
    assert all(len(secret) > 8 for secret in secrets.values())
    found = {(name, place) for name, secret in secrets.items() for place, text in shown.items() if secret in text}
    assert found <= RAYS_OWN
