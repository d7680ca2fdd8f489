"""The machines of a session: a head that has no GPU and three workers of one each, on which each module deploys."""

from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from tests.clients.guard import Guard
from tests.machines.load import pointed
from tests.machines.staged import Machines, staged

WORKERS = 3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/machines/" in str(item.path):
            item.add_marker(pytest.mark.long)
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def machines(pocket_family_folder: Path) -> Iterator[Machines]:
    with staged(pocket_family_folder) as found:
        found.add(gpus=0, cpus=16)
        for _ in range(WORKERS):
            found.add(gpus=1)
        yield found


@pytest.fixture(scope="session")
def key(machines: Machines) -> str:
    return machines.new_key()


@pytest.fixture(scope="session")
def guard(machines: Machines) -> Guard:
    return Guard(IPv4Network(f"{machines.network.address}/24", strict=False))


@pytest.fixture
def clients(machines: Machines, guard: Guard) -> Iterator[None]:
    """fal's client calls the service of these machines, and nothing else."""
    with pointed(machines.address, guard):
        yield
