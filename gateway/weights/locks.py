"""One for many: one run of what several ask for at once, in this process and among those of a node."""

import asyncio
import fcntl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

PAUSE_S = 0.05  # between two looks at a lock that another process has

T = TypeVar("T")


@dataclass(slots=True)
class _Shared(Generic[T]):
    run: asyncio.Task[T]
    waiting: int = 0


class Joint(Generic[T]):
    """Lets those who ask for the same meanwhile wait for one run. Belongs to one event loop."""

    def __init__(self) -> None:
        self._shared: dict[str, _Shared[T]] = {}

    async def run(self, key: str, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `begin` returns or raises, for all who ask for `key` until then. The last who leaves cancels it."""
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = _Shared(asyncio.create_task(begin()))
            shared.run.add_done_callback(partial(self._ended, key, shared))
        shared.waiting += 1
        try:
            return await asyncio.shield(shared.run)
        finally:
            shared.waiting -= 1
            if not shared.waiting and not shared.run.done():
                self._forget(key, shared)  # who asks from now on begins anew
                shared.run.cancel()

    def _forget(self, key: str, shared: _Shared[T]) -> None:
        if self._shared.get(key) is shared:
            del self._shared[key]

    def _ended(self, key: str, shared: _Shared[T], run: asyncio.Task[T]) -> None:
        self._forget(key, shared)
        if not run.cancelled():
            run.exception()  # it may be nobody's any more


@asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Hold the lock of a file, which is made, against all others, of this process too. It ends with its process."""
    file = await asyncio.to_thread(path.open, "ab")
    try:
        while not held(file):  # noqa: ASYNC110 (another process tells nobody)
            await asyncio.sleep(PAUSE_S)
        yield
    finally:
        file.close()


def held(file: BinaryIO) -> bool:
    """Whether the lock of an open file could be taken; it is, until the file is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
