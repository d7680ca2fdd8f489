"""The secret of this service: where it comes from, and the keys that are derived from it, one for each purpose."""

import hmac
import os

from gateway.private_files import read_or_create
from gateway.settings import GatewaySettings

FILE = "token_secret"
SHORTEST = 32  # bytes


def secret_of(settings: GatewaySettings) -> bytes:
    """The secret that settings give, or one that is made once in the data folder."""
    if settings.token_secret is not None:
        return settings.token_secret.get_secret_value().encode()
    return read_or_create(settings.data_dir / FILE, lambda: os.urandom(SHORTEST))


def derived(secret: bytes, purpose: str) -> bytes:
    """A key (32 bytes) for `purpose` alone: it tells nothing of `secret` or of the keys for other purposes."""
    # The blank keeps purposes apart from what tokens sign, which is base64 and dots.
    return hmac.digest(secret, f"fooocus-serve {purpose}".encode(), "sha256")
