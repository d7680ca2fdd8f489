"""A plain HTTP client of the service, and pictures on loopback."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
import skimage.data

from tests.integration.calls import PATIENCE_S


@dataclass(frozen=True)
class Service:
    """The running service, from outside and from inside."""

    base_url: str
    app: str = "service"

    def stats(self) -> Any:
        """Counts of the engine since it started."""
        from ray import serve

        return serve.get_deployment_handle("Diffuser", self.app).stats.remote().result(timeout_s=30)


@pytest.fixture(scope="session")
def service(service: str) -> Service:
    return Service(service)


@pytest.fixture
def client(service: Service) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=service.base_url, timeout=PATIENCE_S, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def photograph() -> bytes:
    """A real one, JPEG, 640 x 427."""
    return (Path(skimage.data.__file__).parent / "rocket.jpg").read_bytes()


@contextmanager
def files_on_loopback(files: Mapping[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """A server of `files` and nothing else: (its address, the paths asked for so far)."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            found = files.get(self.path.lstrip("/"))
            self.send_response(404 if found is None else 200)
            self.send_header("content-length", str(len(found or b"")))
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
