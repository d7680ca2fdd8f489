"""Ed25519 signatures of webhooks and the public keys that verify them, as fal documents both (fal-protocol 5)."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key pair. seed: its private half, 32 bytes."""

    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES:
            raise ValueError(f"a webhook key has {SEED_BYTES} bytes")

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)

    def jwk(self) -> dict[str, str]:
        """The public half as RFC 8037 has it, but `x` padded: fal's documented verifier in Python needs it so."""
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        x = base64.urlsafe_b64encode(public).decode()
        # RFC 7638, RFC 8037 A.3: over the unpadded form
        thumb = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x.rstrip("=")}, separators=(",", ":"))
        kid = base64.urlsafe_b64encode(hashlib.sha256(thumb.encode()).digest()).rstrip(b"=").decode()
        return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": "EdDSA"}


class KeyRing(Protocol):
    """The keys of the service. May read a file: call it off the event loop where that matters."""

    def signing(self) -> SigningKey:
        """The one that signs now; among the published ones."""

    def published(self) -> Sequence[SigningKey]:
        """All that a receiver may meet, newest first."""


@dataclass(frozen=True, slots=True)
class FixedRing:
    """Keys that the operator hands to every replica; the first one signs."""

    keys: tuple[SigningKey, ...]

    def signing(self) -> SigningKey:
        return self.keys[0]

    def published(self) -> Sequence[SigningKey]:
        return self.keys


def jwks(ring: KeyRing) -> dict[str, Any]:
    """The key set that receivers fetch and keep for at most 24 hours."""
    return {"keys": [key.jwk() for key in ring.published()]}


def signed_headers(key: SigningKey, request_id: str, user_id: str, body: bytes, now: float) -> dict[str, str]:
    """The four headers of a delivery. now: Unix seconds; receivers refuse what is more than 300 s from theirs."""
    stamp = str(int(now))
    message = "\n".join((request_id, user_id, stamp, hashlib.sha256(body).hexdigest()))
    return {
        "x-fal-webhook-request-id": request_id,
        "x-fal-webhook-user-id": user_id,
        "x-fal-webhook-timestamp": stamp,
        "x-fal-webhook-signature": key.sign(message.encode()).hex(),
    }
