"""SIGSTOP of each process for three leases, then SIGCONT: nothing is lost, and nothing is done twice."""

import time
from collections.abc import Iterator

import pytest

from gateway.keys.base import KeyLimits
from tests.cluster import LEASE_S
from tests.kills.client import PATIENCE_S, Asking, Receiver, receiver
from tests.kills.conftest import NewKey
from tests.kills.service import Served
from tests.kills.test_kills import TITLES

pytestmark = pytest.mark.cluster

REQUESTS = 20
LEASES = 3
OFTEN = ":Dispatcher"  # which keeps the leases of what is drawn; the others are stopped in the long tier


@pytest.fixture(scope="module")
def hook() -> Iterator[Receiver]:
    with receiver() as one:
        yield one


@pytest.fixture
def client(keyed: Served, new_key: NewKey) -> Iterator[Asking]:
    with Asking(keyed.address, new_key(KeyLimits())) as client:
        yield client


def check_that_all_end_once(keyed: Served, client: Asking, hook: Receiver, title: str, seconds: float) -> None:
    keyed.hold.touch()
    asked = {"prompt": "a cube", "num_inference_steps": 4, "image_size": "square"}
    seeds = {client.submit({**asked, "seed": seed}, hook.url): seed for seed in range(REQUESTS)}
    with keyed.suspended(title):
        time.sleep(seconds)
        keyed.hold.unlink()
    end = time.monotonic() + PATIENCE_S
    while open_ := [name for name in seeds if client.state(name) != "COMPLETED" or name not in hook.heard]:
        assert time.monotonic() < end, f"{len(open_)} of {REQUESTS} have not ended or are not told"
        time.sleep(0.2)
    for name, seed in seeds.items():
        code, body = client.result(name)
        assert (code, body["seed"]) == (200, seed)
    assert {name: hook.heard[name] for name in seeds} == dict.fromkeys(seeds, 1)


@pytest.mark.parametrize(
    "title", [title if title == OFTEN else pytest.param(title, marks=pytest.mark.long) for title in TITLES]
)
def test_a_process_that_hangs_for_a_while(keyed: Served, client: Asking, hook: Receiver, title: str) -> None:
    """Twenty seconds and more: three leases, and what Serve and Ray need to go on."""
    check_that_all_end_once(keyed, client, hook, title, LEASES * LEASE_S)


@pytest.mark.long
def test_a_dispatcher_that_hangs_is_replaced_and_its_requests_are_drawn(
    keyed: Served, client: Asking, hook: Receiver
) -> None:
    """Over twenty seconds: Serve asks three times before it gives a replica up."""
    keyed.hold.touch()
    asked = {"prompt": "a cube", "num_inference_steps": 4, "image_size": "square", "seed": 9}
    name = client.submit(asked, hook.url)
    end = time.monotonic() + PATIENCE_S
    while client.state(name) != "IN_PROGRESS":
        assert time.monotonic() < end
        time.sleep(0.1)
    with keyed.suspended(":Dispatcher"):
        keyed.hold.unlink()
        while client.state(name) != "COMPLETED":
            assert time.monotonic() < end, "nobody has taken the place of the dispatcher that hangs"
            time.sleep(0.2)
    assert client.result(name)[0] == 200


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("title", TITLES)
def test_a_process_that_hangs_for_a_minute(keyed: Served, client: Asking, hook: Receiver, title: str) -> None:
    check_that_all_end_once(keyed, client, hook, title, 60)
