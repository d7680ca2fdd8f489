"""The names of produced pictures: the same at every attempt, and not to be told from what is public of a request."""

import hmac

from gateway.keys.tokens import derived, secret_of
from gateway.settings import GatewaySettings
from gateway.work import ImageFormat

PURPOSE = "names of outputs"
_LENGTH = 32  # hexadecimal digits: 128 bits


class OutputNames:
    """Names pictures under a secret.

    A name is computed when a picture is stored and read from the request's row ever after, so a new secret makes no
    older file unknown.
    """

    def __init__(self, secret: bytes) -> None:
        self._key = derived(secret, PURPOSE)

    @classmethod
    def of(cls, settings: GatewaySettings) -> "OutputNames":
        """Under the service's own secret."""
        return cls(secret_of(settings))

    def key(self, request_id: str, number: int, format: ImageFormat) -> str:
        """The key in the files store of a request's picture, counted from 0."""
        name = hmac.digest(self._key, f"{request_id}/{number}".encode(), "sha256").hex()[:_LENGTH]
        return f"outputs/{request_id}/{name}.{format}"
