"""A Ray of this machine alone: started, once more where the machine is too busy, and gone afterwards."""

import logging
import os
import re
import secrets
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from types import MappingProxyType

from deployments import loopback, memory, proxy
from deployments.starting import Starting

OBJECT_STORE_BYTES = 512 * 2**20
LEAST_CPUS = 8  # to book: there are seven replicas, and most of them mostly wait
# Ray's raylet waits 15 s for its agents, and what starts it 30 s for the raylet; the second time both wait as long.
PATIENCE: Mapping[str, str] = MappingProxyType({"RAY_agent_register_timeout_ms": "30000"})
_TOO_SLOW = re.compile(r"timed? ?out", re.IGNORECASE)
_ENDED_S = 5.0


def prepare_environment() -> None:
    """What the processes of Ray inherit; to be called before anything imports Ray."""
    os.environ.update({**memory.ENVIRONMENT, **loopback.ENVIRONMENT, **proxy.ENVIRONMENT})
    # Loopback is open to every user of this machine: a secret of this run, handed to its children, guards Ray's ports.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.pop("RAY_ADDRESS", None)  # of another cluster


def begin(folder: Path) -> None:
    """Start Ray with its files in `folder`. Raises whatever Ray raises, which may be a plain Exception."""
    import ray

    ray.init(
        address="local",
        num_cpus=max(LEAST_CPUS, cores()),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        configure_logging=False,
        log_to_driver=False,
        namespace="serve",
        runtime_env={"worker_process_setup_hook": loopback.HOOK},
        _temp_dir=str(folder),
        _node_ip_address="127.0.0.1",
    )


@contextmanager
def own_ray(starting: Starting, begin: Callable[[Path], None] = begin) -> Iterator[None]:
    """A Ray of our own, gone afterwards with every process and file.

    Raises RuntimeError, in one sentence that names the folder of the logs that are kept, where Ray does not start or
    what runs on it fails; a ValueError from there is about the settings, and passes as it is.
    """
    folder = _begun(starting, begin)
    failed: Exception | None = None
    try:
        signal.signal(signal.SIGTERM, interrupt)  # Ray has put its own in place
        yield
    except Exception as error:
        failed = error
    finally:
        ignore_signals()
        _end()
        if failed is None or isinstance(failed, ValueError):
            shutil.rmtree(folder, ignore_errors=True)
    if isinstance(failed, ValueError):
        raise failed
    if failed is not None:
        raise RuntimeError(f"{_first_line(failed)}; logs: {_keep_logs(folder, failed)}") from failed


def metrics_address() -> str:
    """Where this Ray offers the metrics of all that runs on it, in Prometheus' form."""
    from deployments.nodes import living_nodes

    (node,) = living_nodes()
    return node.metrics


def interrupt(*_: object) -> None:
    """A signal's handler: ends whatever runs."""
    raise KeyboardInterrupt


def ignore_signals() -> None:
    """From here on the end is under way, and nothing hastens it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def cores() -> int:
    """Of this machine, as far as this process may use them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begun(starting: Starting, begin: Callable[[Path], None]) -> Path:
    """The folder of a Ray that has started, at the second try where the first one was too slow."""
    for last in (False, True):
        folder = Path(tempfile.mkdtemp(prefix="fooocus-", dir="/tmp"))
        try:
            with starting.step("Starting Ray"):
                logging.getLogger("ray.serve").setLevel(logging.WARNING)
                begin(folder)
            return folder
        except KeyboardInterrupt:
            _end()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        except Exception as error:  # Ray raises plain ones
            _end()
            logs = _keep_logs(folder, error)
            if not last and _too_slow(logs):
                starting.say("Ray's processes did not answer in time, as on a busy machine: once more ...")
                os.environ.update(PATIENCE)
                shutil.rmtree(folder, ignore_errors=True)
                continue
            raise RuntimeError(f"{_why(error, logs)}; logs: {logs}") from error
    raise AssertionError("the second try has returned or raised")


def _why(error: Exception, logs: Path) -> str:
    if _too_slow(logs):
        return "Ray's processes did not answer in time, twice: try again when this machine is less busy"
    return f"Ray did not start: {_first_line(error)}"


def _too_slow(logs: Path) -> bool:
    """Whether what was raised, or the raylet's last words, tell of a wait that was over."""
    told = [logs / name for name in ("start.log", "raylet.out", "raylet.err")]
    return any(_TOO_SLOW.search(path.read_text(errors="replace")) for path in told if path.is_file())


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(" .:;") if lines else type(error).__name__


def _keep_logs(folder: Path, error: Exception) -> Path:
    """Leave nothing in Ray's folder but its logs and the traceback of `error`; their folder, for this user alone."""
    logs = folder / "logs"
    written = (folder / "session_latest").resolve() / "logs"
    if written.is_dir():
        shutil.move(written, logs)
    logs.mkdir(exist_ok=True)
    (logs / "start.log").write_text("".join(traceback.format_exception(error)))
    for other in folder.iterdir():
        if other.is_dir() and not other.is_symlink():
            if other != logs:
                shutil.rmtree(other, ignore_errors=True)
        else:
            other.unlink(missing_ok=True)
    return logs


def _end() -> None:
    """End Ray as far as it has come, and what of its processes is left: a start that fails forgets those."""
    import psutil
    import ray
    from ray import serve as ray_serve

    if ray.is_initialized():
        # Ray tells of calls that end because what they called has ended
        with redirect_stdout(StringIO()), suppress(Exception):
            ray_serve.shutdown()  # type: ignore[no-untyped-call]
        with redirect_stdout(StringIO()), suppress(Exception):
            ray.shutdown()
    left = psutil.Process().children(recursive=True)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=_ENDED_S)
