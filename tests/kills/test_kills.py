"""kill -9 of each process in turn, with requests queued and running: nothing that was accepted is lost."""

import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from gateway.keys.base import KeyLimits
from tests.cluster import free_port
from tests.kills.client import PATIENCE_S, Asking, Receiver, receiver
from tests.kills.conftest import NewKey
from tests.kills.service import Served

pytestmark = pytest.mark.cluster

REQUESTS: Mapping[str, int] = {"fake": 50, "pocket": 8}  # by engine
TITLES = (":Diffuser", ":Dispatcher", ":Gateway", ":Postprocessor", "::ServeController", "::ProxyActor")
USUAL = (":Diffuser", ":Dispatcher", ":Gateway", "::ServeController")  # the others die in the long tier


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory, pocket_family_folder: Path) -> Iterator[Served]:
    served = Served.start(tmp_path_factory.mktemp("killed"), free_port(), "pocket", pocket_family_folder)
    yield served
    served.stop()


@pytest.fixture(params=["keyed", pytest.param("drawing", marks=pytest.mark.long)])
def served(request: pytest.FixtureRequest) -> Served:
    served: Served = request.getfixturevalue(request.param)
    return served


@pytest.fixture
def client(served: Served, new_key: NewKey) -> Iterator[Asking]:
    with Asking(served.address, new_key(KeyLimits())) as client:  # which the one that draws does not ask for
        yield client


@pytest.fixture(scope="module")
def hook() -> Iterator[Receiver]:
    with receiver() as one:
        yield one


def submitted(client: Asking, hook: Receiver, number: int) -> dict[str, int]:
    """Requests, each with a seed of its own."""
    asked = {"prompt": "a cube", "num_inference_steps": 4, "image_size": "square"}
    return {client.submit({**asked, "seed": seed}, hook.url): seed for seed in range(number)}


def until_done(client: Asking, seeds: dict[str, int], number: int) -> list[str]:
    """The requests that are done, as soon as there are `number`."""
    end = time.monotonic() + PATIENCE_S
    while True:
        done = [name for name in seeds if client.state(name) == "COMPLETED"]
        if len(done) >= number:
            return done
        assert time.monotonic() < end, f"{len(done)} of {number} are done"
        time.sleep(0.1)


def half_way(served: Served, client: Asking, hook: Receiver) -> tuple[dict[str, int], dict[str, tuple[int, object]]]:
    """Requests of which some have ended, some run and some wait; the answers of the first."""
    served.hold.touch()
    seeds = submitted(client, hook, REQUESTS[served.engine])
    before = {name: client.result(name) for name in until_done(client, seeds, 2)}
    assert len(before) < len(seeds)
    return seeds, before


def check(client: Asking, hook: Receiver, seeds: dict[str, int], before: dict[str, tuple[int, object]]) -> None:
    """Every request has ended well, once, as it had before; its webhook has come; nothing else is known."""
    until_done(client, seeds, len(seeds))
    for name, seed in seeds.items():
        code, body = client.result(name)
        assert (code, body["seed"]) == (200, seed)
        assert before.get(name, (code, body)) == (code, body)
    end = time.monotonic() + PATIENCE_S
    while not set(seeds) <= set(hook.heard):
        assert time.monotonic() < end, f"{len(set(seeds) - set(hook.heard))} webhooks have not come"
        time.sleep(0.1)
    assert {hook.bodies[name]["payload"]["seed"] for name in seeds} == set(seeds.values())
    assert client.state(str(uuid.uuid4())) == "UNKNOWN"


@pytest.mark.parametrize(
    "title", [title if title in USUAL else pytest.param(title, marks=pytest.mark.long) for title in TITLES]
)
def test_a_process_dies(served: Served, client: Asking, hook: Receiver, title: str) -> None:
    seeds, before = half_way(served, client, hook)
    served.kill(title)
    served.hold.unlink()
    check(client, hook, seeds, before)


def test_all_processes_die(served: Served, client: Asking, hook: Receiver) -> None:
    seeds, before = half_way(served, client, hook)
    served.kill_all()
    served.hold.unlink()
    served.start_again()
    check(client, hook, seeds, before)
