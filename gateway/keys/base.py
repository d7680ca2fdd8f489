"""Keys as their callers see them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from gateway.errors import PlatformError


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """None is no limit.

    concurrency: requests that run at once; what is more waits for its turn.
    queue_length: requests that wait. pixel_steps: a day (UTC); width x height x steps, summed over the pictures.
    """

    concurrency: int | None = None
    queue_length: int | None = None
    pixel_steps: int | None = None


def spent(budget: int, used: int, asked: int) -> PlatformError:
    """What a request beyond a day's budget of pixel-steps is answered: a 403, for no retry helps before tomorrow."""
    left = max(0, budget - used)
    text = f"The key's budget is {budget} pixel-steps a day, {left} are left; this asks {asked}."
    return PlatformError("budget_exhausted", text, status=403)


class Scope(StrEnum):
    """What a key may do. ADMIN includes the others."""

    RUN = "run"  # requests, their results, tokens for streaming
    STORAGE = "storage"  # uploads
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret. id: whose requests and files are whose; it stays when the secret is rotated."""

    id: str
    name: str
    scopes: frozenset[Scope]
    limits: KeyLimits
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def counts_at(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever makes a call. key: the id of its key; empty where the service is open, and then all is allowed."""

    key: str = ""
    scopes: frozenset[Scope] = frozenset(Scope)
    limits: KeyLimits = field(default_factory=KeyLimits)

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes


@dataclass(frozen=True, slots=True)
class Issued:
    """A key with its credentials (`id:secret`), which are shown once and stored nowhere."""

    key: Key
    credentials: str = field(repr=False)


class Keys(Protocol):
    """The durable store of keys. Every method is one transaction; a revoked key is refused from the next call on."""

    async def create(
        self, name: str, scopes: Collection[Scope], limits: KeyLimits, expires_at: datetime | None = None
    ) -> Issued: ...

    async def check(self, credentials: str) -> Key | None:
        """The key whose `id:secret` this is; None for a wrong, expired or revoked one, in the same time."""

    async def find(self, key_id: str) -> Key | None:
        """The key, where it exists and is neither expired nor revoked."""

    async def all(self) -> Sequence[Key]:
        """All that ever were, oldest first."""

    async def rotate(self, key_id: str, overlap: timedelta) -> Issued | None:
        """A new secret for a key; the last one counts for `overlap` more. None for a key that does not count."""

    async def revoke(self, key_id: str) -> bool:
        """False for an unknown or already revoked key."""

    async def at_once(self) -> Mapping[str, int]:
        """How many requests may run at once, of each key that has such a limit."""

    async def reserve(self, key_id: str, pixel_steps: int, at_most: int | None = None) -> bool:
        """Count a request of so many pixel-steps for a key today (UTC).

        at_most: False, with nothing counted, where the day's sum would be more. Of charges at once each is in the sum.
        """

    async def refund(self, key_id: str, pixel_steps: int) -> None:
        """Take back today's charge of a request that was not accepted."""

    async def used(self, key_id: str) -> tuple[int, int]:
        """(requests, pixel-steps) of a key today (UTC)."""
