"""What each process of a service holds, and its folder, every few seconds."""

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

MIB = 2**20
_REPLICA = "ray::ServeReplica:"
# what stands in a command, and whose it is; the first that fits
_ROLES = (
    ("ray::ServeController", "Serve's controller"),
    ("ray::ProxyActor", "Serve's proxy"),
    ("ray::RuntimeEnvAgent", "Ray's runtime env agent"),
    ("ray::DashboardAgent", "Ray's dashboard agent"),
    ("ray::", "Ray's idle worker"),
    ("/gcs_server", "Ray's GCS"),
    ("/raylet/raylet", "raylet"),
    ("runtime_env/agent", "Ray's runtime env agent"),
    ("dashboard/agent", "Ray's dashboard agent"),
    ("dashboard/dashboard", "Ray's dashboard"),
    ("log_monitor", "Ray's log monitor"),
    ("autoscaler/_private/monitor", "Ray's monitor"),
    ("deployments.serve_local", "make serve"),
)


@dataclass(frozen=True)
class Sample:
    """Of one process, `at` seconds after the start, in MiB. own: memory that is no file's and nobody else's, which is
    what a leak is made of; resident: with the pages of files, its code among them; shared: memory that other processes
    have too, mostly what it has touched of Ray's object store."""

    at: float
    role: str
    pid: int
    own: float
    resident: float
    shared: float
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Folder:
    """Of the service's data, in MiB."""

    at: float
    wal: float
    ledger: float
    files: float


def role_of(command: str) -> str:
    """Whose a process is by its command, which Ray writes for its workers: a deployment's name, or of Ray."""
    command = command.rstrip("\0 ")  # a title is as long as the command that it replaced
    if command.startswith(_REPLICA):  # ray::ServeReplica:application:deployment.method
        return command.removeprefix(_REPLICA).split(":")[1].split(".")[0].split("(")[0]
    return next((role for part, role in _ROLES if part in command), command.split(" ")[0].rsplit("/", 1)[-1])


def sampled(first: psutil.Process, at: float) -> Iterator[Sample]:
    """Of a process and all that descend from it. One that ends meanwhile is left out."""
    for process in (first, *first.children(recursive=True)):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            own, files, shared = _resident(process.pid)
            yield Sample(
                at,
                role_of(" ".join(process.cmdline())),
                process.pid,
                own,
                own + files,
                shared,
                process.num_fds(),
                process.num_threads(),
            )


def _resident(pid: int) -> tuple[float, float, float]:
    """Its anonymous memory, its pages of files and what it shares, in MiB, which psutil does not tell apart."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise psutil.NoSuchProcess(pid) from None
    told = {
        name: int(value.split()[0]) / 1024
        for name, _, value in (line.partition(":") for line in lines if "Rss" in line)
    }
    return told.get("RssAnon", 0.0), told.get("RssFile", 0.0), told.get("RssShmem", 0.0)


def measured(data: Path, at: float) -> Folder:
    """Of the folder `data` of a service on SQLite."""
    wal, ledger = (_size([data / name]) for name in ("ledger.db-wal", "ledger.db"))
    return Folder(at, wal, ledger, _size(_files(data)) - wal - ledger)


def _files(folder: Path) -> Iterator[Path]:
    """All that are in it; what is taken away meanwhile is left out, folders too."""
    for root, _, names in os.walk(folder):
        yield from (Path(root, name) for name in names)


def _size(paths: Iterable[Path]) -> float:
    found = 0
    for path in paths:
        with suppress(FileNotFoundError):
            found += path.stat().st_size
    return found / MIB


@dataclass(eq=False)
class Watch:
    """Looks at a service every `every_s` seconds in a thread of its own. tells: of every minute, to
    whoever waits for the end."""

    process: psutil.Process
    data: Path
    every_s: float
    tells: bool = False
    samples: list[Sample] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    _begun: float = field(default_factory=time.monotonic)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Raises in the end whatever kept it from looking."""
        over = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            looking = pool.submit(self._look, over)
            try:
                yield
            finally:
                over.set()
            looking.result()

    def _look(self, over: threading.Event) -> None:
        told = -1.0
        while True:
            at = time.monotonic() - self._begun
            found = list(sampled(self.process, at))
            self.samples += found
            self.folders.append(measured(self.data, at))
            if self.tells and at // 60 > told:
                told = at // 60
                print(
                    f"minute {told:.0f}:", *(f"{one.role} {one.own:.0f}," for one in found), file=sys.stderr, flush=True
                )
            if over.wait(self.every_s):
                return
