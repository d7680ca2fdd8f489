"""What the stories need: guarded clients pointed at the service, photographs, Node and a place for wall times."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fal_client
import pytest
import pytest_asyncio
import skimage.data

from tests.clients.guard import Guard
from tests.clients.pointing import point
from tests.cluster import ROOT
from tests.kills.service import Served

HERE = Path(__file__).parent
PHOTOGRAPHS = Path(skimage.data.__file__).parent
NODE_TIMEOUT_S = 120
WALL_TIMES = pytest.StashKey[list[tuple[str, float]]]()

Drive = Callable[..., dict[str, Any]]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[WALL_TIMES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[WALL_TIMES]:
        terminalreporter.section("wall time of the source examples")
        for name, seconds in config.stash[WALL_TIMES]:
            terminalreporter.write_line(f"{seconds:6.1f} s  {name}")


@pytest.fixture
def took(request: pytest.FixtureRequest) -> Callable[[str, float], None]:
    """Report the wall time of an example in the summary."""
    return lambda name, seconds: request.config.stash[WALL_TIMES].append((name, seconds))


@pytest.fixture(scope="session")
def guard() -> Guard:
    return Guard()


@pytest.fixture(scope="session", autouse=True)
def _close_the_modules_client() -> Iterator[None]:
    """`fal_client`'s functions share one client that nothing closes, and an open socket is a warning."""
    yield
    if "_client" in vars(fal_client.sync_client):  # it was used
        fal_client.sync_client._client.close()


@pytest_asyncio.fixture
async def async_client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[fal_client.AsyncClient]:
    """An async client of this test's event loop; the module's own functions share one that outlives the loop."""
    client = fal_client.AsyncClient(key="any:key")
    yield client
    await (await client._client).aclose()


@pytest.fixture
def base(service: str, guard: Guard, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The service's address, with the Python client pointed at it and the guard watching until the test ends."""
    point(service, monkeypatch)
    with guard.watching():
        yield service


@pytest.fixture(scope="session")
def create(lasting: Served) -> Callable[..., str]:
    """Make a key of the service with keys, with the real command; its credentials."""

    def create(*more: str) -> str:
        command = [sys.executable, "-m", "gateway.keys", "--data-dir", str(lasting.data), "create", "somebody", *more]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("FAL_KEY=")]
        return line.removeprefix("FAL_KEY=")

    return create


class PhotographServer:
    """Photographs on loopback. fetched: the names asked for, in order."""

    def __init__(self, folder: Path) -> None:
        fetched: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.lstrip("/")
                fetched.append(name)
                found = folder / name
                known = found.parent == folder and found.is_file()
                content = found.read_bytes() if known else b"no such picture"
                self.send_response(200 if known else 404)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.fetched = fetched
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{name}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def photographs() -> Iterator[PhotographServer]:
    server = PhotographServer(PHOTOGRAPHS)
    yield server
    server.close()


@pytest.fixture(scope="session")
def node() -> str:
    """Node, with the clients of package-lock.json beside these files."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        pytest.skip("the JavaScript clients need node (18.18 or newer) and npm on the PATH: install them and run again")
    installed = HERE / "node_modules" / ".package-lock.json"
    if not installed.is_file() or installed.stat().st_mtime < (HERE / "package-lock.json").stat().st_mtime:
        subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=HERE, check=True, timeout=300)
    return found


@pytest.fixture
def run_node(node: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program under the guard. It is not checked: the caller says what exit status it expects."""

    def run(program: Path, *args: str, stdin: str = "", more: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = [node, "--import", (HERE / "guard.mjs").as_uri(), *more, str(program), *args]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=NODE_TIMEOUT_S, cwd=program.parent
        )

    return run


@pytest.fixture
def drive(base: str, run_node: Callable[..., subprocess.CompletedProcess[str]]) -> Drive:
    return drive_with(base, run_node)


def drive_with(base: str, run_node: Callable[..., subprocess.CompletedProcess[str]]) -> Drive:
    """What runs one story of driver.mjs against the service at `base` and returns what it saw."""

    def drive(
        client: str, way: str, action: str, endpoint: str, input: Mapping[str, Any], **rest: Any
    ) -> dict[str, Any]:
        story = {"client": client, "way": way, "base": base, "action": action, "endpoint": endpoint, "input": input}
        done = run_node(HERE / "driver.mjs", stdin=json.dumps({"options": {}, "fields": [], **story, **rest}))
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return drive
