"""`serve_config.yaml` on several machines: it comes up, and 200 requests of every kind are answered once each."""

from collections import Counter

import httpx2
import pytest

from tests.integration.calls import pixels
from tests.machines.asks import SIDE, mixed
from tests.machines.load import Load, Told
from tests.machines.staged import Machines

PATIENCE_S = 500.0


@pytest.fixture(scope="module", autouse=True)
def _deployed(machines: Machines) -> None:
    machines.deploy(machines.production())


@pytest.mark.usefixtures("clients")
async def test_two_hundred_mixed_requests_are_answered_once_each(machines: Machines, key: str) -> None:
    asks = mixed()
    told = await Load(key, PATIENCE_S).of(asks)
    kept = [one for one in told if one.ask.way != "cancel"]
    assert [one.refused for one in kept if one.refused] == []
    assert [one.seed for one in kept] == [one.ask.arguments["seed"] for one in kept]
    check_cancels(machines, [one for one in told if one.ask.way == "cancel"])
    rows = machines.rows("id, state, attempt, retries, crashes")
    assert len(rows) == len({row[0] for row in rows}) == len(asks)
    assert {one.request_id for one in told if one.request_id} <= {row[0] for row in rows}
    assert Counter(row[1] for row in rows) == {"done": len(asks)}
    assert {row[2:] for row in rows} <= {(1, 0, 0), (0, 0, 0)}  # nothing was drawn twice; some were cancelled before
    check_pictures(kept)
    assert len([node for node, number in machines.replicas("Gateway").items() if number]) == 2


def check_cancels(machines: Machines, told: list[Told]) -> None:
    """Each is cancelled, or was drawn before it was heard."""
    outcomes = dict(machines.rows("id, outcome", "id = ANY(%s)", [[one.request_id for one in told]]))
    for one in told:
        assert (one.body is None) == (outcomes[one.request_id] != "ok"), (one, outcomes[one.request_id])


def check_pictures(told: list[Told]) -> None:
    """One of each endpoint can be fetched from any node."""
    seen = {one.ask.endpoint: one for one in told}
    for one in seen.values():
        answer = httpx2.get(one.body["images"][0]["url"], trust_env=False, timeout=30)
        assert answer.status_code == 200
        assert pixels(answer.content).shape == (SIDE, SIDE, 3)
