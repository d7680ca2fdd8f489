"""The service with keys, for tests that stop, starve or outnumber it."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from gateway.keys.base import KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from tests.kills.service import Served

NewKey = Callable[[KeyLimits], dict[str, str]]


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
