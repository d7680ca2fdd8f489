"""A client that keeps asking while the service is being killed, and a receiver of its webhooks."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2

from tests.integration.calls import FAST

PATIENCE_S = 120.0


@dataclass
class Receiver:
    """Where webhooks come to. heard: how often each request was told of; bodies: what was last said of it."""

    url: str
    heard: Counter[str] = field(default_factory=Counter)
    bodies: dict[str, Any] = field(default_factory=dict)


@contextmanager
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            found.heard[body["request_id"]] += 1
            found.bodies[body["request_id"]] = body
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Receiver(f"http://127.0.0.1:{server.server_address[1]}/hook")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


class Asking:
    """Asks again whatever the answer, until it is one of the codes that are expected."""

    def __init__(self, address: str, headers: Mapping[str, str] | None = None) -> None:
        self._client = httpx2.Client(base_url=address, timeout=20, trust_env=False, headers=headers)

    def __enter__(self) -> "Asking":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def submit(self, input: Mapping[str, Any], webhook: str) -> str:
        answer = self._ask("POST", f"/queue/{FAST}", (200,), params={"fal_webhook": webhook}, json=dict(input))
        return str(answer.json()["request_id"])

    def state(self, request_id: str) -> str:
        answer = self._ask("GET", f"/queue/{FAST}/requests/{request_id}/status", (200, 202, 404))
        return "UNKNOWN" if answer.status_code == 404 else str(answer.json()["status"])

    def result(self, request_id: str) -> tuple[int, Any]:
        """Of a request that has ended."""
        for _ in range(50):
            answer = self._client.get(f"/queue/{FAST}/requests/{request_id}")
            if "x-fal-request-id" in answer.headers:  # it is our answer, and not that of a proxy without replicas
                return answer.status_code, answer.json()
            time.sleep(0.2)
        raise AssertionError(answer.text)

    def _ask(self, method: str, path: str, codes: tuple[int, ...], **more: Any) -> httpx2.Response:
        end, found = time.monotonic() + PATIENCE_S, "nothing"
        while time.monotonic() < end:
            try:
                answer = self._client.request(method, path, **more)
                if answer.status_code in codes:
                    return answer
                found = f"{answer.status_code} {answer.text[:200]}"
            except httpx2.TransportError as error:
                found = repr(error)
            time.sleep(0.2)
        raise AssertionError(f"{path}: {found}")
