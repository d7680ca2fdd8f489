"""The cache of weights on a node's disk: files by their content, and which address had which."""

import asyncio
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Generic, Self, TypeVar

from gateway.errors import PlatformError
from gateway.images.fetch import NotWritten
from gateway.private_files import read_or_create

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


ORPHAN_S = 60.0  # after which an unfinished file that nobody holds is removed: it is older than its lock takes
MOST_ADDRESSES = 10_000  # that are remembered: one file may have any number of them
LOCKS = 3  # hexadecimal digits of an address' hash that choose its lock
SALT = "salt"  # the file of what is hashed with it: no client can tell whose lock an address of his would share
BLOBS = "blobs"
_SHA256 = re.compile(r"[0-9a-f]{64}")

logger = logging.getLogger("fooocus.weights")


class CacheFull(Exception):
    """All that is in the cache is in use, so that nothing can be removed to make room."""


@contextmanager
def making_room() -> Iterator[None]:
    """Weights that cannot be kept now, for the cache or its disk is full or away, are an error to try again after."""
    try:
        yield
    except (CacheFull, NotWritten, OSError) as fault:
        logger.error("weights cannot be kept: %r", fault.__cause__ or fault)
        msg = "The service has no room for more weights now; try again."
        raise PlatformError("runner_scheduling_failure", msg) from fault


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an address had. etag: by its server. checked_at: Unix seconds at which the server said so last."""

    sha256: str
    size: int
    checked_at: float
    etag: str | None = None


@dataclass(slots=True)
class CacheCounts:
    """Since the cache was opened in this process. bytes: of what came in."""

    bytes: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0


class Arriving:
    """A file that is being written, hashed as it comes. It is locked while it is open, and gone afterwards."""

    def __init__(self, path: Path) -> None:
        self.path, self.size, self._hash = path, 0, hashlib.sha256()
        self._file = path.open("xb")
        held(self._file)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, piece: bytes, /) -> int:
        """For any thread. Raises OSError."""
        self._hash.update(piece)
        self.size += len(piece)
        return self._file.write(piece)

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # what was not written out of a full disk
            self._file.close()
        self.path.unlink(missing_ok=True)


class WeightsCache:
    """Files of at most `max_bytes` together, each named by its sha256; the ones used last stay.

    Of what is remembered of addresses at most `most_addresses` stay, as long as their files do; whose is forgotten is
    fetched again. Several processes may share the folder. A file that was found, or came, less than `in_use_s` seconds
    ago is in use: no request runs for longer. Methods block and are for any thread. clock: Unix seconds.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        in_use_s: float,
        clock: Callable[[], float] = time.time,
        most_addresses: int = MOST_ADDRESSES,
    ) -> None:
        self._folder, self._max_bytes, self._in_use_s, self._clock = folder, max_bytes, in_use_s, clock
        self._most_addresses = most_addresses
        self.counts = CacheCounts()
        self._salt = b""

    @property
    def folder(self) -> Path:
        return self._folder

    def open(self) -> None:
        """Make the folder and remove what processes that died left unfinished. Raises OSError."""
        for name in (BLOBS, "addresses", "arriving", "locks"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self._salt = read_or_create(self._folder / SALT, lambda: secrets.token_bytes(16))
        self._remove_orphans()

    def lock_of(self, address: str) -> Path:
        """The file whose lock whoever brings the content of `address` holds; unlike addresses may share one."""
        return self._folder / "locks" / hashlib.sha256(self._salt + address.encode()).hexdigest()[:LOCKS]

    def find(self, sha256: str) -> Path | None:
        """The file of that content, from now on in use; None where it is not here."""
        path = self._blob(sha256)
        with self._alone(fcntl.LOCK_SH):  # it is not removed between the two
            try:
                changed_ns = path.stat().st_mtime_ns  # stays, for readers know by it a content that they had
                os.utime(path, ns=(int(self._clock() * 1e9), changed_ns))
            except FileNotFoundError:
                return None
        return path

    def recall(self, address: str) -> tuple[Remembered, Path] | None:
        """What is remembered of an address, and the file, from now on in use; None unless both are here."""
        try:
            known = Remembered(**json.loads(self._note(address).read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            logger.warning("a note of the cache of weights is damaged, and is written anew")
            return None
        path = self.find(known.sha256)
        if path is None or path.stat().st_size != known.size:  # a disk that lost power
            return None
        return known, path

    def remember(self, address: str, known: Remembered) -> None:
        note = self._note(address)
        with self.arriving() as aside:  # where nothing stays of one that a full disk or a killed process cut short
            aside.write(json.dumps(asdict(known)).encode())
            aside.sync()
            aside.path.replace(note)
        self._forget_the_oldest()

    def arriving(self) -> Arriving:
        """A file to write, of which `keep` keeps the content. Raises OSError."""
        return Arriving(self._folder / "arriving" / secrets.token_hex(16))

    def keep(self, arriving: Arriving) -> Path:
        """Put a written file in its place; room for it is made. Raises CacheFull, and OSError."""
        arriving.sync()
        path = self._blob(arriving.sha256)
        with self._alone(fcntl.LOCK_EX):
            self.counts.bytes += arriving.size
            self._make_room(arriving.size, path.name)
            os.utime(arriving.path, (now := self._clock(), now))
            arriving.path.replace(path)
        return path

    def _make_room(self, size: int, name: str) -> None:
        """name: of the file that comes, which may be here already."""
        self._remove_orphans()
        found = sorted(
            (stat.st_atime, entry.name, stat.st_size)
            for entry in os.scandir(self._folder / BLOBS)
            if entry.name != name
            for stat in [entry.stat()]
        )
        total = size + sum(each for _, _, each in found)
        leaving: list[str] = []
        for used_at, oldest, freed in found:
            if total <= self._max_bytes or used_at > self._clock() - self._in_use_s:
                break
            leaving.append(oldest)
            total -= freed
        if total > self._max_bytes:
            raise CacheFull(f"the cache of weights has no room for {size} bytes more: all of it is in use")
        for each in leaving:
            (self._folder / BLOBS / each).unlink()
        if leaving:
            self.counts.evictions += len(leaving)
            self._forget_the_removed()

    def _forget_the_removed(self) -> None:
        for note in (self._folder / "addresses").iterdir():
            with suppress(OSError, ValueError, KeyError, TypeError):
                if not self._blob(json.loads(note.read_bytes())["sha256"]).exists():
                    note.unlink()

    def _forget_the_oldest(self) -> None:
        """Keep to `MOST_ADDRESSES`, with some room, so that not every new one has to make it."""
        folder = self._folder / "addresses"
        if len(os.listdir(folder)) <= self._most_addresses:
            return
        written: list[tuple[float, str]] = []
        for entry in os.scandir(folder):
            with suppress(FileNotFoundError):  # another process forgets as well
                written.append((entry.stat().st_mtime, entry.path))
        for _, path in sorted(written)[: len(written) - self._most_addresses * 9 // 10]:
            Path(path).unlink(missing_ok=True)

    def _remove_orphans(self) -> None:
        """What a process that died was writing. Its lock went with it."""
        for path in (self._folder / "arriving").iterdir():
            with suppress(FileNotFoundError), path.open("rb") as file:
                if path.stat().st_mtime < time.time() - ORPHAN_S and held(file):
                    path.unlink()

    @contextmanager
    def _alone(self, kind: int) -> Iterator[None]:
        with (self._folder / "locks" / "all").open("ab") as file:
            fcntl.flock(file, kind)
            yield

    def _blob(self, sha256: str) -> Path:
        if _SHA256.fullmatch(sha256) is None:
            raise ValueError("not a sha256")
        return self._folder / BLOBS / sha256

    def _note(self, address: str) -> Path:
        return self._folder / "addresses" / _named(address)


def sha256_of(path: Path) -> str | None:
    """The content that the path of a cache's file names; None for other files."""
    return path.name if path.parent.name == BLOBS and _SHA256.fullmatch(path.name) else None


def _named(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()
