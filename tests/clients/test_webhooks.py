"""A webhook that a client asked for: it comes, fal's documented steps verify it, and it holds what the client gets."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fal_client
import httpx2
import pytest

from tests.clients.conftest import Drive
from tests.clients.outputs import assert_fast_output
from tests.gateway.webhooks.verifying import verifies

pytestmark = [pytest.mark.clients, pytest.mark.cluster]

ENDPOINT = "fal-ai/fast-fooocus-sdxl"
PROMPT = "a red square"
SMALL = {"prompt": PROMPT, "image_size": {"width": 256, "height": 256}, "num_inference_steps": 2, "seed": 5}
PATIENCE_S = 60.0


@dataclass
class Inbox:
    """Where webhooks come to: (headers by lower-case name, raw body) of each."""

    url: str
    came: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def of(self, request_id: str) -> tuple[dict[str, str], bytes]:
        """The first one about a request."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            for headers, body in self.came:
                if json.loads(body)["request_id"] == request_id:
                    return headers, body
            time.sleep(0.05)
        raise AssertionError(f"no webhook came; others: {self.came}")


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.came.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    # a query of its own, which the clients have to escape
    found = Inbox(f"http://127.0.0.1:{server.server_address[1]}/hook?order=7&name=a%20b")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def verified(inbox: Inbox, request_id: str, base: str) -> Any:
    """The body of the webhook about a request, after fal's steps; a changed one must fail them."""
    headers, body = inbox.of(request_id)
    with httpx2.Client(trust_env=False) as client:
        keys = client.get(f"{base}/rest/.well-known/jwks.json").json()
    assert verifies(headers, body, keys)
    assert not verifies(headers, body + b" ", keys)
    assert not verifies({**headers, "x-fal-webhook-request-id": "another"}, body, keys)
    assert headers["x-fal-webhook-request-id"] == request_id
    return json.loads(body)


def test_python_submits_with_a_webhook(base: str, inbox: Inbox) -> None:
    handle = fal_client.submit(ENDPOINT, arguments=SMALL, webhook_url=inbox.url)
    told = verified(inbox, handle.request_id, base)
    assert told["status"] == "OK"
    assert told["gateway_request_id"] == handle.request_id
    assert_fast_output(told["payload"], (256, 256), 5, PROMPT)
    assert told["payload"] == handle.get()


async def test_async_python_hears_of_a_failure(base: str, async_client: fal_client.AsyncClient, inbox: Inbox) -> None:
    arguments = {"prompt": "x", "image_url": f"{base}/files/outputs/none.png"}
    handle = await async_client.submit(f"{ENDPOINT}/image-to-image", arguments=arguments, webhook_url=inbox.url)
    told = verified(inbox, handle.request_id, base)
    assert (told["status"], told["error"]) == ("ERROR", "Invalid status code: 422")
    (entry,) = told["payload"]["detail"]
    assert (entry["loc"], entry["type"]) == (["body", "image_url"], "file_download_error")


@pytest.mark.parametrize(
    ("client", "way"), [("new", "middleware"), ("new", "proxy"), ("new", "fetch"), ("old", "middleware")]
)
def test_javascript_submits_with_a_webhook(drive: Drive, base: str, inbox: Inbox, client: str, way: str) -> None:
    done = drive(client, way, "submit", ENDPOINT, SMALL, options={"webhookUrl": inbox.url})
    told = verified(inbox, done["requestId"], base)
    assert told["status"] == "OK"
    assert_fast_output(told["payload"], (256, 256), 5, PROMPT)


def test_a_webhook_into_a_network_is_refused_at_the_submit(base: str) -> None:
    with pytest.raises(fal_client.FalClientHTTPError, match="fal_webhook") as refused:
        fal_client.submit(ENDPOINT, arguments=SMALL, webhook_url="http://169.254.169.254/latest")
    assert refused.value.status_code == 400
