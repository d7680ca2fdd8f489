"""Keys of webhooks: Ed25519 signatures as fal documents them, and the file of those that a service makes itself."""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typing_extensions import TypedDict

from gateway.private_files import read_or_create, replace
from gateway.settings import FixedSettings

SEED_BYTES = 32


class Jwk(TypedDict):
    kty: str
    crv: str
    x: str
    kid: str
    use: str
    alg: str


class KeySet(TypedDict):
    keys: list[Jwk]


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

    def jwk(self) -> Jwk:
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


def jwks(ring: KeyRing) -> KeySet:
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


FILE = "webhook_keys.json"
KNOWN_AFTER = timedelta(hours=24)  # receivers keep a key set so long (fal-protocol 5)


@dataclass(frozen=True, slots=True)
class KeyVersion:
    key: SigningKey = field(repr=False)
    created: datetime


def ring_of(settings: FixedSettings) -> KeyRing:
    """The keys that settings give or refer to, the first of which signs; or those of a file in the data folder.

    Raises ValueError for a key that is none, without naming it.
    """
    if not settings.webhook_keys:
        return FileKeyRing(settings.data_dir / FILE)
    given = settings.seeds()
    try:
        seeds = [base64.b64decode(seed, validate=True) for seed in given]
        return FixedRing(tuple(SigningKey(seed) for seed in seeds))
    except ValueError:
        raise ValueError("webhook_keys: each is 32 random bytes in base64") from None


def _now() -> datetime:
    return datetime.now(UTC)


class FileKeyRing:
    """Keys in a file that is read again whenever it changes.

    All are published; the newest one that every receiver can know by now signs, so that a rotation breaks nobody.
    """

    def __init__(self, path: Path, now: Callable[[], datetime] = _now) -> None:
        self._path, self._now = path, now
        self._read: tuple[tuple[int, int, int], list[KeyVersion]] | None = None

    def signing(self) -> SigningKey:
        return self._signing(self._keys()).key

    def published(self) -> Sequence[SigningKey]:
        return [dated.key for dated in self._keys()]

    def dated(self) -> Sequence[tuple[str, datetime, bool]]:
        """(kid, when made, whether it signs) of each, newest first."""
        keys = self._keys()
        signing = self._signing(keys)
        return [(dated.key.jwk()["kid"], dated.created, dated is signing) for dated in keys]

    def rotate(self) -> None:
        """Add a key, which is published at once and signs after a day; forget those that no receiver needs."""
        keys = self._keys()
        signing = keys.index(self._signing(keys))
        # the one before the signing one too: a delivery that it signed may still be on its way
        kept = [KeyVersion(SigningKey(os.urandom(32)), self._now()), *keys[: signing + 2]]
        replace(self._path, _packed(kept))

    def _signing(self, keys: Sequence[KeyVersion]) -> KeyVersion:
        known = [dated for dated in keys if self._now() - dated.created >= KNOWN_AFTER]
        return known[0] if known else keys[-1]

    def _keys(self) -> list[KeyVersion]:
        content = None
        if self._read is None:
            content = read_or_create(self._path, lambda: _packed([KeyVersion(SigningKey(os.urandom(32)), self._now())]))
        found = self._path.stat()
        version = (found.st_mtime_ns, found.st_ino, found.st_size)
        if self._read is None or self._read[0] != version:
            content = content or read_or_create(self._path, bytes)
            self._read = version, _unpacked(content)
        return self._read[1]


def _packed(keys: Sequence[KeyVersion]) -> bytes:
    found = [
        {"created": dated.created.isoformat(), "seed": base64.b64encode(dated.key.seed).decode()} for dated in keys
    ]
    return json.dumps({"keys": found}, indent=2).encode()


def _unpacked(content: bytes) -> list[KeyVersion]:
    keys = [
        KeyVersion(SigningKey(base64.b64decode(each["seed"])), datetime.fromisoformat(each["created"]))
        for each in json.loads(content)["keys"]
    ]
    return sorted(keys, key=lambda dated: dated.created, reverse=True)
