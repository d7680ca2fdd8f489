"""How much a key may ask for, and the decision whether one request more is too much."""

from dataclasses import dataclass

from gateway.errors import PlatformError

RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """None is no limit.

    concurrency: requests that run at once; more of the queue's wait, a sync run beyond is refused.
    queue_length: requests that wait. pixel_steps: a day (UTC); width x height x steps, summed over the pictures.
    """

    concurrency: int | None = None
    queue_length: int | None = None
    pixel_steps: int | None = None


@dataclass(frozen=True, slots=True)
class KeyUse:
    """What a key has under way, and has used today. running: includes sync runs."""

    running: int = 0
    waiting: int = 0
    pixel_steps: int = 0


class TooMany(PlatformError):
    """More at once than the key allows: a 429, which all clients try again."""

    def __init__(self, detail: str) -> None:
        super().__init__("concurrent_requests_limit", detail, status=429)

    def __reduce__(self) -> tuple[object, ...]:
        return TooMany, (self.detail,)

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "x-fal-needs-retry": "1", "retry-after": str(RETRY_AFTER_S)}


def refusal(limits: KeyLimits, use: KeyUse, pixel_steps: int, waits: bool) -> PlatformError | None:
    """Why a request of `pixel_steps` is not accepted now; None where it is.

    waits: it goes to the queue; False for a sync run. A spent budget is a 403, for no retry helps before tomorrow.
    """
    if limits.pixel_steps is not None and use.pixel_steps + pixel_steps > limits.pixel_steps:
        left = max(0, limits.pixel_steps - use.pixel_steps)
        text = f"The key's budget is {limits.pixel_steps} pixel-steps a day, {left} are left; this asks {pixel_steps}."
        return PlatformError("budget_exhausted", text, status=403)
    if waits and limits.queue_length is not None and use.waiting >= limits.queue_length:
        return TooMany(f"{use.waiting} requests of this key are waiting; it may have {limits.queue_length}.")
    if not waits and not may_begin(limits, use):
        return TooMany(f"{use.running} requests of this key are running; it may have {limits.concurrency}.")
    return None


def may_begin(limits: KeyLimits, use: KeyUse) -> bool:
    """Whether one more request of the key may run now."""
    return limits.concurrency is None or use.running < limits.concurrency
