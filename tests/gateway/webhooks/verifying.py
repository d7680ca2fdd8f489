"""A receiver that verifies as fal's documentation says, written from its steps with PyNaCl and nothing of ours."""

import base64
import hashlib
import time
from collections.abc import Mapping
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey


def verifies(headers: Mapping[str, str], body: bytes, jwks: Mapping[str, Any]) -> bool:
    """Step 1: the headers. 2: the timestamp within 5 minutes. 3: the message. 4: any key of the set."""
    request_id = headers.get("x-fal-webhook-request-id")
    user_id = headers.get("x-fal-webhook-user-id")
    timestamp = headers.get("x-fal-webhook-timestamp")
    signature = headers.get("x-fal-webhook-signature")
    if not request_id or not user_id or not timestamp or not signature:
        return False
    if abs(int(time.time()) - int(timestamp)) > 300:
        return False
    message = "\n".join([request_id, user_id, timestamp, hashlib.sha256(body).hexdigest()]).encode("utf-8")
    for key in jwks["keys"]:
        public = base64.urlsafe_b64decode(key["x"])  # as documented, without adding padding
        try:
            VerifyKey(public).verify(message, bytes.fromhex(signature))
        except BadSignatureError:
            continue
        return True
    return False
