"""A webhook's fields are fal's."""

import json

from gateway.errors import ModelError
from gateway.ledger.models import Answer
from gateway.webhooks.sender import webhook_body

IDS = {"request_id": "r1", "gateway_request_id": "r1"}


def said(answer: Answer) -> object:
    return json.loads(webhook_body("r1", answer))


def test_a_success_carries_the_output() -> None:
    assert said(Answer(200, {"images": [{"url": "ü"}]})) == {
        **IDS,
        "status": "OK",
        "payload": {"images": [{"url": "ü"}]},
    }


def test_an_error_carries_its_body_and_its_status() -> None:
    body = ModelError("image_load_error", "broken", ("image_url",)).body()
    assert said(Answer(422, body)) == {
        **IDS,
        "status": "ERROR",
        "error": "Invalid status code: 422",
        "payload": body,
    }


def test_an_output_that_is_no_json_is_said_to_be_none() -> None:
    found = said(Answer(200, {"seed": float("nan")}))
    assert isinstance(found, dict)
    assert "not JSON serializable" in found.pop("payload_error")
    assert found == {**IDS, "status": "OK", "payload": None}
