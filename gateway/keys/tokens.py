"""Short-lived signed tokens that stand for a key where the key itself must not go: into a browser, to the CDN."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import jwt

from gateway.private_files import read_or_create
from gateway.settings import GatewaySettings

FILE = "token_secret"
LONGEST_S = 3600
_ALGORITHM = "HS256"
_AUDIENCE = "fooocus-serve"


class Purpose(StrEnum):
    """What a token is for; each is refused for the other."""

    STREAM = "stream"  # `{endpoint}/stream` from a browser
    STORAGE = "storage"  # uploads to the CDN routes


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says. key: in whose name; empty where the service is open. apps: second id segments (`fooocus`)."""

    key: str
    purpose: Purpose
    apps: tuple[str, ...] = ()


class Tokens:
    """Makes and reads tokens. secret: at least 32 bytes, the same in every replica. clock: Unix seconds."""

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        if len(secret) < 32:
            raise ValueError("token_secret has fewer than 32 bytes")
        self._secret, self._clock = secret, clock

    @classmethod
    def of(cls, settings: GatewaySettings) -> "Tokens":
        """With the secret that settings give, or one that is made once in the data folder."""
        if settings.token_secret is not None:
            return cls(settings.token_secret.get_secret_value().encode())
        return cls(read_or_create(settings.data_dir / FILE, lambda: os.urandom(32)))

    def issue(self, key: str, purpose: Purpose, lifetime_s: float, apps: Sequence[str] = ()) -> str:
        """lifetime_s: at most `LONGEST_S` of it."""
        claims = {
            "aud": _AUDIENCE,
            "sub": key,
            "purpose": purpose,
            "apps": list(apps),
            "exp": self._clock() + min(lifetime_s, LONGEST_S),
        }
        return jwt.encode(claims, self._secret, _ALGORITHM)

    def read(self, token: str, purpose: Purpose) -> Token | None:
        """None for a token that is not ours, is for something else or has run out."""
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                options={"require": ["exp", "aud", "sub"], "verify_exp": False},
            )
        except jwt.InvalidTokenError:
            return None
        if claims["exp"] <= self._clock() or claims["purpose"] != purpose:
            return None
        return Token(claims["sub"], purpose, tuple(claims["apps"]))
