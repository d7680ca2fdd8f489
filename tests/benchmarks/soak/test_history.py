"""What came of requests is remembered though the service keeps them for minutes only."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from benchmarks.soak.history import OPEN, History

Pages = list[list[tuple[str, str | None]]]


@pytest.fixture
def pages() -> Pages:
    """What the service tells: of each page the requests and their outcomes."""
    return []


@pytest.fixture
def address(pages: Pages) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            number = int(self.path.partition("cursor=")[2] or 0)
            told = [{"request_id": name, "outcome": outcome} for name, outcome in pages[number]]
            cursor = str(number + 1) if number + 1 < len(pages) else None
            body = json.dumps({"requests": told, "cursor": cursor}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_what_was_seen_on_any_page_stays_known_when_it_is_gone(address: str, pages: Pages) -> None:
    history = History(address)
    pages += [[("a", "ok"), ("b", None)], [("c", "error")]]
    history.look()
    assert history.missing(["a", "b", "c", "d"]) == ["b", "d"]
    pages[:] = [[("b", "ok")]]
    assert history.settle() == {"ok": 2, "error": 1}
    assert history.missing(["a", "b", "c", "d"]) == ["d"]


def test_what_stays_open_is_told_when_patience_is_over(
    address: str, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.soak.history.SETTLE_S", 0.0)
    pages += [[("a", None)]]
    assert History(address).settle() == {OPEN: 1}
