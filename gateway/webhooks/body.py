"""What a webhook says: fal's fields for a success and for an error (fal-protocol 5)."""

import json
from typing import Any

from gateway.ledger.base import Answer

NOT_JSON = (
    "Response payload is not JSON serializable. Either return a JSON serializable object or use the queue endpoint "
    "to retrieve the response."
)


def webhook_body(request_id: str, answer: Answer) -> bytes:
    """The JSON that is sent, and signed, byte for byte. answer: what the result route replays."""
    said: dict[str, Any] = {"request_id": request_id, "gateway_request_id": request_id}
    if answer.status < 400:
        said |= {"status": "OK", "payload": answer.body}
    else:
        said |= {"status": "ERROR", "error": f"Invalid status code: {answer.status}", "payload": answer.body}
    try:
        return json.dumps(said, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError):
        return json.dumps({**said, "payload": None, "payload_error": NOT_JSON}, separators=(",", ":")).encode()
