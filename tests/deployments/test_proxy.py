"""What a proxy of Serve's tells where no gateway answers."""

from collections.abc import Mapping, Sequence

import httpx2
import pytest
from ray._common.utils import import_attr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments import proxy
from deployments.proxy import ENVIRONMENT, middlewares

START = "http.response.start"
BODY: Message = {"type": "http.response.body", "body": b"said"}


def saying(*messages: Message) -> ASGIApp:
    """What Serve's proxy says of a call."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def start(status: int, headers: Sequence[tuple[bytes, bytes]] = ()) -> Message:
    return {"type": START, "status": status, "headers": headers}


async def asked(app: ASGIApp, path: str = "/fal-ai/fast-fooocus-sdxl") -> httpx2.Response:
    for cls, args, kwargs in middlewares():
        app = cls(app, *args, **kwargs)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as client:
        return await client.post(path)


def check_says_retry(answer: httpx2.Response) -> None:
    assert answer.status_code == 503
    told: Mapping[str, str] = answer.json()
    assert told["error_type"] == answer.headers["x-fal-error-type"] == "runner_disconnected"
    assert "try again" in told["detail"]
    assert answer.headers["x-fal-retryable"] == "true"


async def test_a_call_whose_gateway_is_lost_is_told_to_try_again() -> None:
    check_says_retry(await asked(saying()))


async def test_a_call_without_a_gateway_is_told_so_in_fals_shape() -> None:
    check_says_retry(await asked(saying(start(503), BODY)))


@pytest.mark.parametrize("status", [200, 404, 422, 500])
async def test_what_a_gateway_or_serve_answers_else_is_passed_on(status: int) -> None:
    answer = await asked(saying(start(status), BODY))
    assert (answer.status_code, answer.text) == (status, "said")


async def test_a_gateways_own_503_is_passed_on() -> None:
    answer = await asked(saying(start(503, [(b"X-Fal-Request-Id", b"1")]), BODY))
    assert (answer.status_code, answer.text) == (503, "said")


async def test_what_serve_tells_load_balancers_is_passed_on() -> None:
    answer = await asked(saying(start(503), BODY), "/-/healthz")
    assert (answer.status_code, answer.text) == (503, "said")


def test_the_environment_names_what_serve_calls() -> None:
    (path,) = ENVIRONMENT.values()
    assert import_attr(path.replace(":", ".")) is proxy.middlewares
