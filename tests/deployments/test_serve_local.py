"""Whether the service is ready is asked of our own process, however it is reached from outside."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deployments import serve_local
from deployments.certificate import certificate


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/ready" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(params=["http", "https"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Ready)
    if request.param == "https":
        made = certificate(tmp_path, {"images.example.com"})
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.server)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"{request.param}://0.0.0.0:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_neither_a_proxy_nor_a_certificates_names_nor_a_wildcard_is_in_the_way(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(serve_local, "READY_TIMEOUT_S", 5.0)
    serve_local._wait_until_ready(address)


def test_who_does_not_answer_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_local, "READY_TIMEOUT_S", 0.0)
    with pytest.raises(RuntimeError, match="/ready does not answer"):
        serve_local._wait_until_ready("http://127.0.0.1:9")
