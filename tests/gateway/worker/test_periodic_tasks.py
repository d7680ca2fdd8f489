"""Sweeps go on whatever one of them meets."""

import asyncio

import pytest

from gateway.errors import StoreUnavailable
from gateway.worker.reaper import PeriodicTasks
from tests.gateway.fakes import until


async def test_each_sweep_runs_again_and_again_though_another_fails(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    async def failing() -> int:
        done.append("failing")
        raise OSError("disk")

    async def working() -> int:
        done.append("working")
        return 3

    tasks = PeriodicTasks([failing, working], every_s=0.01)
    task = asyncio.create_task(tasks.run())

    async def twice() -> bool:
        return done[:4] == ["failing", "working"] * 2

    await until(twice)
    tasks.stop()
    await asyncio.wait_for(task, 30)
    assert "clearing up failed" in caplog.text


async def test_a_store_that_is_away_is_a_line_without_a_trace(caplog: pytest.LogCaptureFixture) -> None:
    sweeps = 0

    async def away() -> int:
        nonlocal sweeps
        sweeps += 1
        raise StoreUnavailable("files")

    tasks = PeriodicTasks([away], every_s=0.01)
    task = asyncio.create_task(tasks.run())

    async def several() -> bool:
        return sweeps > 3

    await until(several)
    tasks.stop()
    await asyncio.wait_for(task, 30)
    (said,) = caplog.records
    assert "files store" in said.getMessage()
    assert said.exc_info is None


async def test_the_first_sweep_waits_no_longer_than_the_others() -> None:
    swept = asyncio.Event()

    async def sweep() -> int:
        swept.set()
        return 0

    tasks = PeriodicTasks([sweep], every_s=0.01, first_s=100)
    task = asyncio.create_task(tasks.run())
    await asyncio.wait_for(swept.wait(), 30)
    tasks.stop()
    await asyncio.wait_for(task, 30)


async def test_another_pause_holds_at_once() -> None:
    swept = asyncio.Event()

    async def sweep() -> int:
        swept.set()
        return 0

    tasks = PeriodicTasks([sweep], every_s=100, first_s=50)
    task = asyncio.create_task(tasks.run())
    await asyncio.sleep(0)
    tasks.every(0.01)
    await asyncio.wait_for(swept.wait(), 30)
    tasks.stop()
    await asyncio.wait_for(task, 30)
