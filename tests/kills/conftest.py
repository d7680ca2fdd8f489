"""A service in processes of its own, with keys and short leases, for tests that stop, starve or outnumber it."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.keys.base import KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from tests.cluster import free_port
from tests.kills.service import Served

LEASE_S = 2.0

NewKey = Callable[[KeyLimits], dict[str, str]]


@pytest.fixture(scope="session")
def lasting(tmp_path_factory: pytest.TempPathFactory, pocket_family_folder: Path) -> Iterator[Served]:
    """With an engine that draws nothing and can be held."""
    folder = tmp_path_factory.mktemp("keyed")
    gateway = {"keys": "required", "lease_s": LEASE_S}
    served = Served.start(
        folder, free_port(), "fake", pocket_family_folder, gateway=gateway, limits={"stop_grace_s": 1}
    )
    yield served
    served.stop()


@pytest.fixture
def keyed(lasting: Served) -> Iterator[Served]:
    """The same for each test, which finds it well whatever the one before has left."""
    yield lasting
    lasting.hold.unlink(missing_ok=True)
    if lasting.process.poll() is not None:
        lasting.start_again()


@pytest.fixture(scope="session")
def new_key(lasting: Served) -> NewKey:
    """Makes a key; returns the header that shows it."""

    async def made(limits: KeyLimits) -> str:
        keys = await SqlKeys.open(f"sqlite:///{lasting.data / 'ledger.db'}")
        try:
            return (await keys.create("test", [Scope.RUN, Scope.STORAGE], limits)).credentials
        finally:
            await keys.close()

    return lambda limits: {"authorization": f"Key {asyncio.run(made(limits))}"}
