"""Short-lived signed tokens that stand for a key where the key itself must not go: into a browser, to the CDN."""

import hmac
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jwt

from gateway.private_files import read_or_create
from gateway.settings import FixedSettings

FILE = "token_secret"
SHORTEST = 32  # bytes


def secret_of(settings: FixedSettings) -> bytes:
    """The secret that settings give or refer to, or one that is made once in the data folder."""
    if (given := settings.secret()) is not None:
        return given.encode()
    return read_or_create(settings.data_dir / FILE, lambda: os.urandom(SHORTEST))


def other_secrets_of(settings: FixedSettings) -> tuple[bytes, ...]:
    """The secrets whose tokens are taken too: those of the settings, and once these give one, that which was made."""
    made: tuple[bytes, ...] = ()
    if settings.token_secret is not None:
        with suppress(FileNotFoundError):
            made = ((settings.data_dir / FILE).read_bytes(),)
    return (*(secret.encode() for secret in settings.other_secrets()), *made)


def derived(secret: bytes, purpose: str) -> bytes:
    """A key (32 bytes) for `purpose` alone: it tells nothing of `secret` or of the keys for other purposes."""
    # The blank keeps purposes apart from what tokens sign, which is base64 and dots.
    return hmac.digest(secret, f"fooocus-serve {purpose}".encode(), "sha256")


LONGEST_S = 3600
_ALGORITHM = "HS256"
_AUDIENCE = "fooocus-serve"


class Purpose(StrEnum):
    """What a token is for; each is refused for the other."""

    STREAM = "stream"  # `{endpoint}/stream` from a browser
    STORAGE = "storage"  # uploads to the CDN routes
    UPLOAD = "upload"  # the content of one file
    FILE = "file"  # reading one file, whoever has the address


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says. key: in whose name; empty where the service is open. apps: second id segments (`fooocus`)."""

    key: str
    purpose: Purpose
    apps: tuple[str, ...] = ()


class Tokens:
    """Makes and reads tokens. secret: at least 32 bytes, the same in every replica. clock: Unix seconds.

    others: secrets whose tokens are read too, so that the secret can be changed.
    """

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time, others: Sequence[bytes] = ()) -> None:
        if len(secret) < SHORTEST:
            raise ValueError(f"token_secret has fewer than {SHORTEST} bytes")
        self._secret, self._read, self._clock = secret, (secret, *others), clock

    @classmethod
    def of(cls, settings: FixedSettings) -> "Tokens":
        """With the service's own secret."""
        return cls(secret_of(settings), others=other_secrets_of(settings))

    def issue(self, key: str, purpose: Purpose, lifetime_s: float, apps: Sequence[str] = ()) -> str:
        """lifetime_s: at most `LONGEST_S` of it."""
        claims = {"sub": key, "apps": list(apps)}
        return self._signed(claims, purpose, min(lifetime_s, LONGEST_S))

    def read(self, token: str, purpose: Purpose) -> Token | None:
        """None for a token that is not ours, is for something else or has run out."""
        claims = self._claims(token, purpose)
        return None if claims is None else Token(claims["sub"], purpose, tuple(claims["apps"]))

    def seal(self, payload: Mapping[str, Any], purpose: Purpose, lifetime_s: float) -> str:
        """A token that carries `payload` (JSON), readable by whoever has it and written by nobody but us."""
        return self._signed({"sub": "", "payload": dict(payload)}, purpose, lifetime_s)

    def unseal(self, token: str, purpose: Purpose) -> Any | None:
        """The payload; None where `read` gives None."""
        claims = self._claims(token, purpose)
        return None if claims is None else claims["payload"]

    def _signed(self, claims: Mapping[str, Any], purpose: Purpose, lifetime_s: float) -> str:
        common = {"aud": _AUDIENCE, "purpose": purpose, "exp": self._clock() + lifetime_s}
        return jwt.encode({**claims, **common}, self._secret, _ALGORITHM)

    def _claims(self, token: str, purpose: Purpose) -> dict[str, Any] | None:
        for secret in self._read:
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    secret,
                    algorithms=[_ALGORITHM],
                    audience=_AUDIENCE,
                    options={"require": ["exp", "aud", "sub"], "verify_exp": False},
                )
            except jwt.InvalidTokenError:
                continue
            return claims if claims["exp"] > self._clock() and claims["purpose"] == purpose else None
        return None
