"""Ten retries within two hours."""

import pytest

from gateway.webhooks.sender import ATTEMPTS, JITTER, TIMEOUT_S, retry_delay


def test_there_are_ten_retries() -> None:
    assert [attempt for attempt in range(1, 20) if retry_delay(attempt, 0.5) is not None] == list(range(1, 11))
    assert ATTEMPTS == 11


@pytest.mark.parametrize("luck", [0.0, 0.5, 1.0])
def test_they_fit_into_two_hours_with_all_their_timeouts(luck: float) -> None:
    waits = [retry_delay(attempt, luck) or 0 for attempt in range(1, ATTEMPTS)]
    assert 3600 < sum(waits) + ATTEMPTS * TIMEOUT_S < 7200
    assert waits == sorted(waits)


def test_luck_spreads_them() -> None:
    assert retry_delay(1, 0.0) == 5 * (1 - JITTER)
    assert retry_delay(1, 1.0) == 5 * (1 + JITTER)
    assert retry_delay(4, 0.5) == 40
