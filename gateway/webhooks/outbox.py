"""Where the deliveries that are due come from, as their sender sees it."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from gateway.ledger.base import Answer


class Delivery(Protocol):
    """One attempt (from 1) at the webhook of a request. key: whose request it is; empty where the service is open."""

    @property
    def request_id(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def answer(self) -> Answer: ...
    @property
    def attempt(self) -> int: ...


D = TypeVar("D", bound=Delivery)


class Outbox(Protocol[D]):
    """The durable store of what is owed. A claimed delivery is held for its lease; one that is lost is sent again."""

    async def claim(self, owner: str, count: int, lease_s: float) -> Sequence[D]:
        """Take up to `count` deliveries whose time has come, longest due first; each counts as an attempt."""

    async def delivered(self, held: D) -> bool:
        """The receiver has taken it. False when the delivery was lost to another sender."""

    async def failed(self, held: D, error: str, retry_s: float) -> object:
        """The attempt failed: another one in `retry_s` seconds, or none after the last."""

    async def postpone(self, held: Sequence[D], delay_s: float) -> None:
        """Put deliveries back that were not tried, due in `delay_s` seconds; the claim was no attempt."""
