"""The webhook keys of a service that makes its own: a private file, made at the first start, rotated by a command."""

import base64
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.private_files import read_or_create, replace
from gateway.settings import GatewaySettings
from gateway.webhooks.signing import FixedRing, KeyRing, SigningKey

FILE = "webhook_keys.json"
KNOWN_AFTER = timedelta(hours=24)  # receivers keep a key set so long (fal-protocol 5)


@dataclass(frozen=True, slots=True)
class Dated:
    key: SigningKey = field(repr=False)
    created: datetime


def ring_of(settings: GatewaySettings) -> KeyRing:
    """The keys that settings give, the first of which signs; or those of a file in the data folder.

    Raises ValueError for a key that is none, without naming it.
    """
    if not settings.webhook_keys:
        return RingFile(settings.data_dir / FILE)
    try:
        seeds = [base64.b64decode(key.get_secret_value(), validate=True) for key in settings.webhook_keys]
        return FixedRing(tuple(SigningKey(seed) for seed in seeds))
    except ValueError:
        raise ValueError("webhook_keys: each is 32 random bytes in base64") from None


def _now() -> datetime:
    return datetime.now(UTC)


class RingFile:
    """Keys in a file that is read again whenever it changes.

    All are published; the newest one that every receiver can know by now signs, so that a rotation breaks nobody.
    """

    def __init__(self, path: Path, now: Callable[[], datetime] = _now) -> None:
        self._path, self._now = path, now
        self._read: tuple[tuple[int, int, int], list[Dated]] | None = None

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
        kept = [Dated(SigningKey(os.urandom(32)), self._now()), *keys[: signing + 2]]
        replace(self._path, _packed(kept))

    def _signing(self, keys: Sequence[Dated]) -> Dated:
        known = [dated for dated in keys if self._now() - dated.created >= KNOWN_AFTER]
        return known[0] if known else keys[-1]

    def _keys(self) -> list[Dated]:
        content = None
        if self._read is None:
            content = read_or_create(self._path, lambda: _packed([Dated(SigningKey(os.urandom(32)), self._now())]))
        found = self._path.stat()
        version = (found.st_mtime_ns, found.st_ino, found.st_size)
        if self._read is None or self._read[0] != version:
            content = content or read_or_create(self._path, bytes)
            self._read = version, _unpacked(content)
        return self._read[1]


def _packed(keys: Sequence[Dated]) -> bytes:
    found = [
        {"created": dated.created.isoformat(), "seed": base64.b64encode(dated.key.seed).decode()} for dated in keys
    ]
    return json.dumps({"keys": found}, indent=2).encode()


def _unpacked(content: bytes) -> list[Dated]:
    keys = [
        Dated(SigningKey(base64.b64decode(each["seed"])), datetime.fromisoformat(each["created"]))
        for each in json.loads(content)["keys"]
    ]
    return sorted(keys, key=lambda dated: dated.created, reverse=True)
