"""What a soak sees of the processes of a service: whose they are, and what they hold."""

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.soak.verdict import Verdict, Windows
from benchmarks.soak.watching import Sample, Watch, measured, role_of, sampled
from tests.deployments.fakes import wait_until

LEAKING = "import sys\nheld = []\nfor line in sys.stdin: held.append(b'x' * 2**22); print(len(held), flush=True)"


@pytest.fixture
def process() -> Iterator["subprocess.Popen[str]"]:
    """It takes 4 MiB more for every line that it is told."""
    with subprocess.Popen(
        [sys.executable, "-c", LEAKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        yield started
        started.kill()


def leak(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("more\n")
    process.stdin.flush()
    process.stdout.readline()


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("ray::ServeReplica:fooocus:Gateway.handle_request_with_rejection", "Gateway"),
        ("ray::ServeReplica:fooocus:SafetyChecker" + 40 * " ", "SafetyChecker"),
        ("ray::DashboardAgent", "Ray's dashboard agent"),
        ("ray::ProxyActor.run", "Serve's proxy"),
        ("ray::ServeController.listen_for_change", "Serve's controller"),
        ("ray::IDLE", "Ray's idle worker"),
        ("/x/ray/core/src/ray/gcs/gcs_server --log_dir=/tmp", "Ray's GCS"),
        ("/x/ray/core/src/ray/raylet/raylet --raylet_socket_name=/tmp", "raylet"),
        ("python -u /x/ray/_private/log_monitor.py --session-dir=/tmp", "Ray's log monitor"),
        ("python -m deployments.serve_local --port 8000", "make serve"),
        ("/usr/bin/other --with words", "other"),
    ],
)
def test_a_process_is_known_by_its_command(command: str, role: str) -> None:
    assert role_of(command) == role


def test_what_a_child_takes_is_seen_of_the_child(process: "subprocess.Popen[str]") -> None:
    leak(process)
    before = {one.pid: one for one in sampled(psutil.Process(), 0.0)}[process.pid]
    for _ in range(8):
        leak(process)
    after = {one.pid: one for one in sampled(psutil.Process(), 1.0)}[process.pid]
    for grown in (after.own - before.own, after.resident - before.resident):
        assert grown == pytest.approx(32, abs=2)
    assert after.shared == before.shared
    assert after.threads == 1


def test_pages_of_files_and_shared_ones_are_told_apart(pocket_family_folder: Path) -> None:
    def own() -> Sample:
        return next(one for one in sampled(psutil.Process(), 0.0) if one.pid == os.getpid())

    size, page = 8 * 2**20, mmap.PAGESIZE
    weights = max(pocket_family_folder.rglob("*.safetensors"), key=lambda file: file.stat().st_size)
    before = own()
    with weights.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as mapped:
        assert len(mapped[::page]) == size // page  # each page is looked at
        read = own()
        assert (read.own - before.own, read.resident - before.resident) == pytest.approx((0, 8), abs=1)
    with mmap.mmap(-1, size) as shared:
        for at in range(0, size, page):
            shared[at] = 1
        written = own()
        assert (written.shared - before.shared, written.resident - before.resident) == pytest.approx((8, 0), abs=1)


def test_a_process_that_leaks_while_it_is_watched_is_caught(process: "subprocess.Popen[str]", tmp_path: Path) -> None:
    leak(process)
    watch = Watch(psutil.Process(process.pid), tmp_path, every_s=0.02)
    with watch.watching():
        wait_until(lambda: len(watch.folders) > 10)
        warm_s = watch.folders[-1].at
        for _ in range(4):
            leak(process)
        seen = len(watch.folders)
        wait_until(lambda: len(watch.folders) > seen + 10)
    windows = Windows(warm_s, 0.1, watch.folders[-1].at)
    assert any("own" in failure for failure in Verdict(watch.samples, watch.folders, windows).failures)


def test_the_folder_is_measured_by_its_parts(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    for name, mib in {"ledger.db": 2, "ledger.db-wal": 4, "files/a.png": 1}.items():
        (tmp_path / name).write_bytes(bytes(mib * 2**20))
    found = measured(tmp_path, 7.0)
    assert (found.at, found.wal, found.ledger, found.files) == (7.0, 4.0, 2.0, 1.0)


def test_a_watch_that_cannot_look_fails(process: "subprocess.Popen[str]", tmp_path: Path) -> None:
    watch = Watch(psutil.Process(process.pid), tmp_path, every_s=0.02)
    process.kill()
    process.wait()
    with pytest.raises(psutil.NoSuchProcess), watch.watching():
        """It looks at once."""
