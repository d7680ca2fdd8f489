"""A Ray of our own: what its failures tell, what is kept of it, and that a busy machine gets a second try."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployments import memory, own_ray, proxy
from deployments.own_ray import own_ray as opened
from deployments.starting import Starting
from tests.deployments.fakes import wait_until

LATE = "raylet.out", "Timed out waiting for file /tmp/dashboard_agent_port"


@pytest.fixture(autouse=True)
def harmless(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither the signals, the environment nor the processes of the tests are touched."""
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(own_ray, "_end", lambda: None)
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


class Fails:
    """Stands for the start of Ray: writes a log as Ray does, and raises; `times` times, then it starts."""

    def __init__(self, *faults: tuple[Exception, tuple[str, str]]) -> None:
        self.faults, self.folders = list(faults), list[Path]()

    def __call__(self, folder: Path) -> None:
        self.folders.append(folder)
        logs = folder / "session_1" / "logs"
        logs.mkdir(parents=True)
        (folder / "session_latest").symlink_to("session_1")
        (folder / "session_1" / "sockets").mkdir()
        if self.faults:
            error, (name, line) = self.faults.pop(0)
            (logs / name).write_text(line)
            raise error


def told(begin: Callable[[Path], None]) -> str:
    with pytest.raises(RuntimeError) as caught, opened(Starting(), begin):
        pass
    return str(caught.value)


def test_a_ray_that_does_not_start_is_a_sentence_and_its_logs_are_kept() -> None:
    begin = Fails((Exception("The GCS has failed.\nSee the logs.\n"), ("gcs_server.out", "no space left")))
    said = told(begin)
    (folder,) = begin.folders
    assert said == f"Ray did not start: The GCS has failed; logs: {folder}/logs"
    assert (folder / "logs/gcs_server.out").read_text() == "no space left"
    assert "Traceback" in (folder / "logs/start.log").read_text()
    assert [path.name for path in folder.iterdir()] == ["logs"]
    assert folder.stat().st_mode & 0o077 == 0  # others do not read them


@pytest.mark.parametrize("late", [LATE, ("gcs_server.out", "well")], ids=["the raylet", "ray itself"])
def test_a_busy_machine_gets_a_second_longer_try(late: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    begin = Fails((Exception("The current node timed out during startup." if late != LATE else "gone"), late))
    with opened(Starting(), begin):
        seen = [folder.is_dir() for folder in begin.folders]
    assert seen == [False, True]  # what is left of the first try is gone
    assert not begin.folders[1].exists()
    assert "busy machine: once more" in capsys.readouterr().out
    assert {**own_ray.PATIENCE}.items() <= dict(os.environ).items()


def test_a_machine_that_stays_busy_is_told_so() -> None:
    begin = Fails((Exception("gone"), LATE), (Exception("gone"), LATE))
    assert "twice: try again when this machine is less busy; logs: " in told(begin)
    assert len(begin.folders) == 2


def test_what_fails_on_it_is_a_sentence_with_the_logs_too() -> None:
    begin = Fails()

    def fail() -> None:
        (begin.folders[0] / "session_latest" / "logs" / "replica.log").write_text("out of memory")
        raise Exception("The controller is dead.\nmore")  # as Ray raises them

    with pytest.raises(RuntimeError) as caught, opened(Starting(), begin):
        fail()
    (folder,) = begin.folders
    assert str(caught.value) == f"The controller is dead; logs: {folder}/logs"
    assert (folder / "logs/replica.log").read_text() == "out of memory"


def test_ctrl_c_leaves_nothing() -> None:
    begin = Fails()
    with pytest.raises(KeyboardInterrupt), opened(Starting(), begin):
        raise KeyboardInterrupt
    assert not begin.folders[0].exists()


def test_processes_that_a_failed_start_forgets_are_ended(tmp_path: Path) -> None:
    source = (
        "import subprocess, sys; from deployments import own_ray; from deployments.starting import Starting\n"
        "def begin(folder):\n"
        "    print(subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL).pid, flush=True)\n"
        "    raise Exception('no')\n"
        "try:\n"
        "    with own_ray.own_ray(Starting(), begin): pass\n"
        "except RuntimeError: pass\n"
        "input()\n"  # whoever lives, lives on while this process does
    )
    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        forgotten = next(int(line) for line in process.stdout if line.strip().isdecimal())
        wait_until(lambda: not Path(f"/proc/{forgotten}").exists(), 30)
        assert process.poll() is None
        process.communicate("\n")


def test_lines_of_a_start_have_seconds_and_a_long_step_says_that_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    said = ""

    def goes_on() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return "Starting Ray goes on ..." in said

    with Starting(repeat_s=0.01).step("Starting Ray"):
        wait_until(goes_on, 10)
    assert said.startswith("   0 s  Starting Ray ...\n")


def test_proxies_say_what_the_service_wants_where_no_gateway_answers() -> None:
    own_ray.prepare_environment()
    assert os.environ.items() >= proxy.ENVIRONMENT.items()


def test_processes_have_few_heaps_for_their_threads() -> None:
    own_ray.prepare_environment()
    assert os.environ.items() >= memory.ENVIRONMENT.items()


def test_every_run_has_a_secret_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    own_ray.prepare_environment()
    first = os.environ["RAY_AUTH_TOKEN"]
    own_ray.prepare_environment()
    assert first != os.environ["RAY_AUTH_TOKEN"]
    assert "RAY_ADDRESS" not in os.environ
