"""When a webhook is sent again: ten retries within two hours (fal-protocol 5)."""

ATTEMPTS = 11  # the first and ten retries
TIMEOUT_S = 15.0
WITHIN_S = 7200.0
FIRST_S = 5.0
JITTER = 0.25


def retry_delay(attempt: int, luck: float) -> float | None:
    """Seconds from the end of failed attempt number `attempt` (from 1) to the next; None after the last.

    5, 10, 20, ... 2560 s, each longer or shorter by up to a quarter, by `luck` from 0 to 1, so that what failed
    together does not come back together. With the attempts' own timeouts it stays within two hours.
    """
    if attempt >= ATTEMPTS:
        return None
    return FIRST_S * 2.0 ** (attempt - 1) * (1 + JITTER * (2 * luck - 1))
