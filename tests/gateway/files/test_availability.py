"""The state of a store: asked for by many, of the store seldom, and told when it changes."""

import asyncio
import logging

import pytest

from gateway.errors import StoreUnavailable
from gateway.files.availability import StoreWatch
from tests.gateway.fakes import until


class Store:
    """fault: what its check raises. gate: without which no check ends."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.checks = 0
        self.told: list[tuple[str, bool]] = []
        self.now = 0.0

    async def check(self) -> None:
        self.checks += 1
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault

    def tell(self, store: str, up: bool) -> None:
        self.told.append((store, up))

    def watch(self, timeout_s: float = 5) -> StoreWatch:
        return StoreWatch("files", self.check, self.tell, every_s=2, timeout_s=timeout_s, clock=lambda: self.now)


async def test_many_who_ask_cost_one_check() -> None:
    store = Store()
    watch = store.watch()
    store.gate.clear()
    asking = [asyncio.create_task(watch.well()) for _ in range(20)]
    await asyncio.sleep(0)
    store.gate.set()
    assert await asyncio.gather(*asking) == [True] * 20
    store.now = 1.9
    assert await watch.well()
    assert store.checks == 1
    store.now = 2.0
    assert await watch.well()
    assert store.checks == 2


async def test_one_who_stops_asking_takes_the_answer_from_nobody() -> None:
    store = Store()
    watch = store.watch()
    store.gate.clear()
    first, second = asyncio.create_task(watch.well()), asyncio.create_task(watch.well())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    store.gate.set()
    assert await second
    assert store.checks == 1


@pytest.mark.parametrize("fault", [StoreUnavailable("files"), OSError("disk")])
async def test_it_is_away_until_it_answers_again_and_each_change_is_one_line(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store = Store()
    watch = store.watch()
    answers = []
    for store.fault in (None, fault, fault, fault, None, None):
        answers.append(await watch.well())
        store.now += 2
    assert answers == [True, False, False, False, True, True]
    assert store.told == [("files", answer) for answer in answers]
    said = [record for record in caplog.records if record.name == "fooocus.gateway"]
    assert [record.levelname for record in said] == ["WARNING", "INFO"]
    assert all("files store" in record.getMessage() and record.exc_info is None for record in said)


async def test_a_store_that_does_not_answer_in_time_is_away() -> None:
    store = Store()
    store.gate.clear()
    assert not await store.watch(timeout_s=0.05).well()


async def test_a_gauge_hears_of_a_store_that_nobody_asks_for() -> None:
    store = Store()
    store.fault = OSError("disk")
    watch = store.watch()
    running = asyncio.create_task(watch.run(every_s=0))

    async def told() -> bool:
        return bool(store.told)

    await until(told)
    running.cancel()
    assert store.told[0] == ("files", False)
