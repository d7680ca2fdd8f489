"""What fal's published clients decode without a test is in this service's answers, with the type that each takes.

Swift decodes into types whose keys must be there, Kotlin and Dart into ones that are never null; the other two are run
as they are in `tests/clients`, and stand here for what no story of theirs reads. Dart's error for a 422 is left out: it
reads keys (`status`, `body`) that fal's answers do not have either.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx2
import pytest

from gateway.errors import ModelError
from gateway.ledger.models import State
from tests.gateway.fakes import FAST, INPUT, FakeRunner, until
from tests.gateway.http.conftest import Dispatch, Reach

Kind = Callable[[Any], bool]


def text(value: Any) -> bool:
    return isinstance(value, str)


def url(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("http://")


def whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def level(value: Any) -> bool:
    return value in {"STDERR", "STDOUT", "ERROR", "INFO", "WARN", "DEBUG"}


def listed(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def nothing(value: Any) -> bool:
    return value is None


LINKS: Mapping[str, tuple[Kind, str]] = {
    "request_id": (text, "java, js"),
    "response_url": (url, "swift, java, dart, js, python"),
    "status_url": (url, "java, js, python"),
    "cancel_url": (url, "java, js, python"),
}
LOGS: Mapping[str, tuple[Kind, str]] = {
    "logs": (listed, "swift, dart, js, python"),
    "logs[].message": (text, "swift, java, dart, js"),
    "logs[].timestamp": (text, "swift, java, dart, js"),
    "logs[].level": (level, "js"),
    "logs[].source": (text, "js"),
    "logs[].labels.level": (level, "swift, java"),
    "logs[].labels.source": (text, "java"),
}
NO_LOGS: Mapping[str, tuple[Kind, str]] = {
    "logs": (nothing, "swift, python")
}  # the key, also where none were asked for
FAULT: Mapping[str, tuple[Kind, str]] = {"detail": (text, "swift, python"), "message": (text, "js, ai sdk")}

# answer -> path of a key -> what it must be, and for which clients
REQUIRED: Mapping[str, Mapping[str, tuple[Kind, str]]] = {
    "submit": {**LINKS, "request_id": (text, "all"), "queue_position": (whole, "java"), "status": (text, "java")},
    "IN_QUEUE": {**LINKS, "queue_position": (whole, "swift, java, dart, js, python")},
    "IN_PROGRESS": {**LINKS, **NO_LOGS},
    "IN_PROGRESS with logs": {**LINKS, **LOGS},
    "COMPLETED": {**LINKS, **NO_LOGS, "metrics.inference_time": (number, "js, python")},
    "COMPLETED with logs": {**LINKS, **LOGS},
    "result": {
        "images": (listed, "all"),
        "images[].url": (url, "swift, js"),
        "images[].content_type": (text, "swift, js"),
        "images[].width": (whole, "swift, js"),
        "images[].height": (whole, "swift, js"),
    },
    "initiated upload": {"upload_url": (url, "swift, dart, js, python"), "file_url": (url, "swift, dart, js, python")},
    "fault of the input": {
        "detail": (listed, "js, java, ai sdk, python"),
        "detail[].loc": (listed, "js, java, ai sdk"),
        "detail[].msg": (text, "js, java, ai sdk"),
        "detail[].type": (text, "js, java, ai sdk"),
        "message": (text, "js, ai sdk"),
    },
    "fault of a call": {**FAULT, "error_type": (text, "python")},
}


def values(body: Any, path: str) -> list[Any]:
    """What is at a path, where `[]` is each entry of a list. Raises KeyError where a key is missing."""
    found = [body]
    for name in path.replace("[]", ".[]").split("."):
        found = [each for one in found for each in one] if name == "[]" else [one[name] for one in found]
    return found


def decode(answer: str, body: Any) -> None:
    for path, (kind, clients) in REQUIRED[answer].items():
        try:
            found = values(body, path)
        except (KeyError, TypeError):
            pytest.fail(f"{answer} has no {path}, which {clients} read: {body}")
        assert found, (answer, path)
        for value in found:
            assert kind(value), f"{path} of {answer} is {value!r}: {clients} take a {kind.__name__}"


async def status(client: httpx2.AsyncClient, submitted: Mapping[str, Any], logs: str = "0") -> Any:
    """Logs are asked for as Swift and Dart do; the others leave the parameter away, which means the same as `0`."""
    answer = await client.get(submitted["status_url"], params={"logs": logs})
    assert answer.is_success  # 200 and 202 alike, as every client has it
    return answer.json()


async def test_on_the_way_to_a_picture(
    client: httpx2.AsyncClient, runner: FakeRunner, dispatch: Dispatch, reach: Reach
) -> None:
    answer = await client.post(f"/queue/{FAST}", json=INPUT)
    submitted = answer.json()
    decode("submit", submitted)
    for logs in ("0", "1"):
        decode("IN_QUEUE", await status(client, submitted, logs))
    runner.steps, runner.pause_s = 200, 0.05
    async with dispatch():
        await reach(submitted["request_id"], State.RUNNING)

        async def told() -> bool:
            return bool((await status(client, submitted, "1"))["logs"])

        await until(told)
        decode("IN_PROGRESS", await status(client, submitted))
        decode("IN_PROGRESS with logs", await status(client, submitted, "1"))
        runner.pause_s = 0
        await reach(submitted["request_id"], State.DONE)
    decode("COMPLETED", await status(client, submitted))
    decode("COMPLETED with logs", await status(client, submitted, "1"))
    result = await client.get(submitted["response_url"])
    decode("result", result.json())
    assert result.headers["x-fal-request-id"] == submitted["request_id"]  # Kotlin's is never null
    events = (await client.get(submitted["status_url"] + "/stream", params={"logs": "1"})).text
    for event in filter(None, events.split("\n\n")):
        decode("COMPLETED with logs", json.loads(event.removeprefix("data: ")))


async def test_warnings_have_a_level_that_clients_know(
    client: httpx2.AsyncClient, dispatch: Dispatch, reach: Reach
) -> None:
    submitted = (await client.post(f"/queue/{FAST}", json={**INPUT, "promtp": "a typo"})).json()
    async with dispatch():
        await reach(submitted["request_id"], State.DONE)
    decode("COMPLETED with logs", await status(client, submitted, "1"))


async def test_of_a_request_that_failed(
    client: httpx2.AsyncClient, runner: FakeRunner, dispatch: Dispatch, reach: Reach
) -> None:
    runner.fault = ModelError("file_download_error", "No such file.", ("image_url",))
    submitted = (await client.post(f"/queue/{FAST}", json=INPUT)).json()
    async with dispatch():
        await reach(submitted["request_id"], State.DONE)
    found = await status(client, submitted, "1")
    decode("COMPLETED with logs", found)
    assert text(found["error"])
    assert text(found["error_type"])
    decode("fault of the input", (await client.get(submitted["response_url"])).json())


async def test_a_run_an_upload_and_faults(client: httpx2.AsyncClient, dispatched: None) -> None:
    decode("result", (await client.post(f"/run/{FAST}", json=INPUT)).json())
    upload = await client.post(
        "/rest/storage/upload/initiate", json={"content_type": "image/png", "file_name": "a.png"}
    )
    decode("initiated upload", upload.json())
    decode("fault of the input", (await client.post(f"/queue/{FAST}", json={})).json())
    unknown = f"/queue/{FAST}/requests/00000000-0000-4000-8000-000000000000/status"
    for answer in (await client.get(unknown), await client.post("/queue/fal-ai/none", json={})):
        assert answer.status_code == 404
        decode("fault of a call", answer.json())


@pytest.mark.parametrize("answer", REQUIRED)
def test_a_key_that_is_missing_or_null_is_found(answer: str) -> None:
    """The table itself: none of its rows lets an empty answer pass."""
    with pytest.raises(pytest.fail.Exception, match="has no"):
        decode(answer, {})
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        decode(answer, {path.split("[")[0].split(".")[0]: False for path in REQUIRED[answer]})
