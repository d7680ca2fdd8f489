"""The threads in which a place for bytes is asked: few, and its own, so that one that hangs stops nothing else."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

AT_ONCE = 32
ROOM_S = 5.0

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """Runs blocking calls, `at_once` of them; one beyond waits `room_s` seconds for a thread at most.

    It can be pickled, and has its own threads in each process.
    """

    def __init__(self, at_once: int = AT_ONCE, room_s: float = ROOM_S) -> None:
        self._at_once, self._room_s = at_once, room_s
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="files")

    def __reduce__(self) -> tuple[Any, ...]:
        return Threads, (self._at_once, self._room_s)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `call` returns; one that waits for a thread is withdrawn when this is cancelled.

        Raises TimeoutError, and has done nothing, when no thread becomes free in time: then all of them hang.
        """
        submitted = self._pool.submit(call, *args, **kwargs)
        answer = asyncio.wrap_future(submitted)
        try:
            await asyncio.wait({answer}, timeout=self._room_s)
            if submitted.cancel():  # which what has begun does not let happen
                raise TimeoutError("every thread of the files store is busy")
            return await answer
        except asyncio.CancelledError:
            answer.cancel()
            raise
