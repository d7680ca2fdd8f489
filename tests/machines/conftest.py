"""The machines of these tests, as `cluster.yaml` has them: a head that runs no replica, two machines for what needs no
GPU, and three of one logical GPU each. Each module deploys on them."""

from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from tests.clients.guard import Guard
from tests.machines.load import pointed
from tests.machines.staged import Machines, staged

CPU_WORKERS, GPU_WORKERS = 2, 3
GROUP = "fooocus-serve/group"  # the label by which the production file places its replicas


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = [place for place, item in enumerate(items) if "tests/machines/" in str(item.path)]
    # the others deploy what they change of it
    ours = sorted((items[place] for place in places), key=lambda item: "test_production_file" not in item.nodeid)
    for place, item in zip(places, ours, strict=True):
        items[place] = item
        item.add_marker(pytest.mark.long)
        item.add_marker(pytest.mark.cluster)
        item.add_marker(pytest.mark.timeout(900))


# they end with the last of these tests: those of other folders need the memory and the cores
@pytest.fixture(scope="package")
def machines(pocket_family_folder: Path) -> Iterator[Machines]:
    with staged(pocket_family_folder) as found:
        found.add("head", cpus=0, gpus=0, labels={GROUP: "head"})
        for number in range(CPU_WORKERS):
            found.add(f"cpu{number}", cpus=16, gpus=0, labels={GROUP: "cpu"})
        for number in range(GPU_WORKERS):
            found.add(f"gpu{number}", cpus=8, gpus=1, labels={GROUP: "gpu"})
        yield found


@pytest.fixture(scope="package")
def key(machines: Machines) -> str:
    return machines.new_key()


@pytest.fixture(scope="package")
def guard(machines: Machines) -> Guard:
    return Guard(IPv4Network(f"{machines.network.address}/24", strict=False))


@pytest.fixture
def clients(machines: Machines, guard: Guard) -> Iterator[None]:
    """fal's client calls the service of these machines, and nothing else."""
    with pointed(machines.address, guard):
        yield
