"""Writes whose caller is cancelled meanwhile are made to their end."""

import asyncio

import pytest

from gateway.retries import shielded, to_its_end


class Write:
    """One that is under way until it is let go, and then returns 7 or raises `fault`."""

    def __init__(self, fault: Exception | None = None) -> None:
        self._fault = fault
        self.begun, self.leave = asyncio.Event(), asyncio.Event()
        self.written = False

    async def make(self) -> int:
        self.begun.set()
        await self.leave.wait()
        if self._fault is not None:
            raise self._fault
        self.written = True
        return 7


async def cancelled(task: asyncio.Task[int], write: Write, times: int = 1) -> None:
    """Cancel a task that awaits a write, and let the write go on."""
    await write.begun.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not task.done()
    write.leave.set()


async def test_a_shielded_write_is_made_and_the_cancellation_goes_on() -> None:
    write = Write()
    task = asyncio.create_task(shielded(write.make()))
    await cancelled(task, write)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert write.written


@pytest.mark.parametrize("times", [1, 3])
async def test_a_last_write_is_made_and_answered_whoever_cancels_meanwhile(times: int) -> None:
    write = Write()
    task = asyncio.create_task(to_its_end(write.make()))
    await cancelled(task, write, times)
    assert await task == 7
    assert write.written


async def test_a_last_write_that_fails_says_so_to_who_was_cancelled() -> None:
    write = Write(OSError("disk"))
    task = asyncio.create_task(to_its_end(write.make()))
    await cancelled(task, write)
    with pytest.raises(OSError, match="disk"):
        await task
