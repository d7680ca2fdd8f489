"""What a client is told of a body that is no JSON, what it is instead, or where it stops being JSON; and of one that is
not as the route takes it, in which field."""

import json

import pytest
from starlette.requests import Request

from gateway.http.request_body import unreadable
from tests.gateway.http.storing import Uploader, beside

REQUEST = Request({"type": "http", "headers": []})


def told(body: bytes) -> str:
    with pytest.raises((ValueError, RecursionError)) as caught:
        json.loads(body)
    return unreadable(REQUEST, body, caught.value)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"{'a': 1}", "line 1, column 2."),
        (b'{"a": 1,\n "b": 2\n "c": 3}', "line 3, column 2."),
        (b'{"a": 1} {"b": 2}', "line 1, column 10."),
        (b'{"a": "two\nlines"}', "line 1, column 11."),
        ('{"é": nothing}'.encode(), "line 1, column 7."),
        (b'{"a": "\\x"}', "line 1, column 8."),
    ],
)
def test_what_is_not_valid_is_told_its_line_and_column(body: bytes, where: str) -> None:
    assert told(body).startswith("The body is not valid JSON. ")
    assert told(body).endswith(f": {where}")


@pytest.mark.parametrize(
    ("body", "where"),
    [('{"a": "café"}'.encode("latin-1"), "line 1, column 11."), (b'{\n"\xc3\xa9": "\xff"}', "line 2, column 7.")],
)
def test_so_is_what_is_not_in_utf_8(body: bytes, where: str) -> None:
    assert "send it in UTF-8" in told(body)
    assert told(body).endswith(f"begins at {where}")


@pytest.mark.parametrize(("body", "why"), [(b"[" * 100_000, "levels"), (b"9" * 5000, "digits")])
def test_what_cannot_be_read_though_it_is_json_is_told_why(body: bytes, why: str) -> None:
    assert why in told(body)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"parts": [{"partNumber": 1}]}, "parts.0.etag: Field required."),
        ({"parts": [{"partNumber": "1", "etag": "x"}]}, "parts.0.partNumber: Input should be a valid integer."),
        ({"parts": 7}, "parts: Input should be a valid list."),
        ({}, "parts: Field required."),
    ],
)
async def test_what_is_not_as_the_route_takes_it_is_told_its_field(up: Uploader, body: object, where: str) -> None:
    begun = await up.begun("initiate-multipart")
    answer = await up.client.post(beside(begun["upload_url"], "complete"), json=body)
    assert (answer.status_code, answer.json()["detail"]) == (400, f"The body is not valid: {where}")


async def test_a_body_that_is_no_object_is_told_so(up: Uploader) -> None:
    answer = await up.client.post("/rest/tokens", json=[1])
    assert (answer.status_code, answer.json()["detail"]) == (400, "The body must be a JSON object.")
