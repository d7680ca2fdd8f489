"""What a place for bytes must do to hold the files store, and the threads in which it is asked."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO, ParamSpec, Protocol, TypeVar


@dataclass(frozen=True, slots=True)
class Blob:
    """size in bytes. notes: what was written with it; empty for what another program put there."""

    size: int
    notes: Mapping[str, str]


class Blobs(Protocol):
    """Bytes by path (`a/b/c`, of our making), with notes of ASCII text. Methods block; any thread may call them.

    Each raises OSError, within seconds, when the place cannot be reached, read or written.
    """

    def write(self, path: str, file: BinaryIO, notes: Mapping[str, str]) -> None:
        """All of `file`, from its beginning, durably; a reader sees the old whole or the new one. May close `file`."""

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes | None:
        """`size` bytes from `start`, fewer at the end, all without a size; None when there is no such path."""

    def stat(self, path: str) -> Blob | None: ...

    def delete(self, path: str) -> None:
        """A missing path is not an error."""

    def list(self, folder: str) -> Iterator[str]:
        """The paths in a folder (`a/b/`) and those in it, in order. What comes and goes meanwhile may be missed."""


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
