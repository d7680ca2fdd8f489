"""A machine of a staged cluster: a node of Ray with a network, processes, folders and shared memory of its own.

Ended with its first process the kernel ends all others in it, so a test that fails leaves none behind, and neither does
one that is killed itself.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.cluster import ROOT

STORE_BYTES = 75 * 2**20  # the least that Ray takes
DATA = Path("/var/lib/fooocus-serve")  # where the production file has a node's data
RAY_PORT, METRICS_PORT = 6379, 9090
START_S = 240.0
# Ray gives its own processes 15 s to answer, which a busy machine does not keep, and its workers the lowest priority
PATIENCE: Mapping[str, str] = {
    "RAY_agent_register_timeout_ms": "180000",
    "RAY_raylet_start_wait_time_s": "200",
    "RAY_worker_niceness": "0",
}
_MOUNTS = """
set -e
mount --bind {home}/tmp /tmp/ray
mount --bind {home}/data {data}
mount -t tmpfs -o size=1g tmpfs /dev/shm
{more}
ulimit -n 20000
"$@" > {home}/ray.log 2>&1 &
wait
"""


@dataclass
class Node:
    """namespace, address: of its network. home: of the folders that are its disk. environment: of all that runs on
    it. mounts: folders of this machine by where they are on it."""

    name: str
    namespace: str
    address: str
    home: Path
    environment: Mapping[str, str]
    mounts: Mapping[Path, Path]
    cpus: int
    gpus: int
    labels: Mapping[str, str]
    password: str = ""
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def logs(self) -> Path:
        """Of its newest session. Ray's own link to it names a folder that is mounted on the node alone."""
        return max(self.home.glob("tmp/session_2*"), default=self.home / "tmp") / "logs"

    def start(self, head: "Node | None" = None) -> None:
        """Start Ray on it and wait until it takes part. head: of its cluster; itself where there is none."""
        (self.home / "ray.log").unlink(missing_ok=True)
        for folder in ("tmp", "data"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        words = [program("ray"), "start", "--block", f"--node-ip-address={self.address}"]
        words += [f"--num-cpus={self.cpus}", f"--num-gpus={self.gpus}", f"--object-store-memory={STORE_BYTES}"]
        words += [f"--metrics-export-port={METRICS_PORT}", "--disable-usage-stats"]
        words += [*([f"--labels={_listed(self.labels)}"] if self.labels else [])]
        if head is None:
            words += ["--head", f"--port={RAY_PORT}", "--dashboard-host=127.0.0.1", f"--redis-password={self.password}"]
        else:
            words += [f"--address={head.address}:{RAY_PORT}"]
        Path("/tmp/ray").mkdir(exist_ok=True)  # to be mounted over, on this node alone
        more = "\n".join(
            f"mkdir -p {target}; mount --bind {shlex.quote(str(source))} {target}"
            for target, source in self.mounts.items()
        )
        script = _MOUNTS.format(home=shlex.quote(str(self.home)), data=DATA, more=more)
        # the machine ends with these tests, and all that runs on it with its first process
        command = ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self.namespace]
        command += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with (self.home / "start.log").open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "bash", "-c", script, "bash", *words],
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # to which Linux gives the cores as to one of any other
            )
        end = time.monotonic() + START_S
        while "Ray runtime started" not in self.said():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"{self.name} does not start: {self.said()}")
            time.sleep(0.2)

    def said(self) -> str:
        """What its start has told."""
        told = [self.home / name for name in ("start.log", "ray.log")]
        return "".join(path.read_text(errors="replace") for path in told if path.exists())

    def run(self, *words: str, timeout_s: float = 120.0) -> str:
        """What a command that succeeds prints, run on it."""
        ended = subprocess.run(
            ["nsenter", "--target", str(self._first().pid), "--net", "--mount", "--pid", "--", *words],
            cwd=ROOT,
            env={**os.environ, **self.environment, "RAY_ADDRESS": ""},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert ended.returncode == 0, f"{words[0]} on {self.name}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def processes(self, title: str = "") -> list[psutil.Process]:
        """Of it, those whose command holds `title`."""
        return [one for one in self._first().children(recursive=True) if title in _title(one)]

    def kill(self, title: str = "") -> None:
        """kill -9 of the processes whose command holds `title`, or of the whole machine."""
        if title:
            found = self.processes(title)
            assert found, f"nothing on {self.name} is {title}"
            for process in found:
                process.kill()
        elif self.process is not None:
            if self.process.poll() is None and (first := self._first()) is not None:
                first.kill()
            self.process.wait(30)
            self.process = None

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _first(self) -> psutil.Process:
        """The first of its processes; the one that started it, until then."""
        assert self.process is not None, f"{self.name} does not run"
        parent = psutil.Process(self.process.pid)
        return next(iter(parent.children()), parent)


def program(name: str) -> str:
    """Of the environment that the tests run in."""
    return str(Path(sys.executable).parent / name)


def _listed(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in labels.items())


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
