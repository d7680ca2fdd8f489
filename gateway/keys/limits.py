"""How much a key may ask for."""

from dataclasses import dataclass

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
