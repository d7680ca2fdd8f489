"""A key gets what its limits say, and is told why not more."""

import pickle

import pytest

from gateway.keys.limits import KeyLimits, KeyUse, TooMany, may_begin, refusal

LIMITS = KeyLimits(concurrency=2, queue_length=3, pixel_steps=100)


@pytest.mark.parametrize("waits", [True, False])
def test_no_limits_refuse_nothing(waits: bool) -> None:
    assert refusal(KeyLimits(), KeyUse(10**6, 10**6, 10**18), 10**12, waits) is None


@pytest.mark.parametrize(
    ("use", "steps", "waits", "status"),
    [
        (KeyUse(), 100, True, None),
        (KeyUse(), 101, True, 403),
        (KeyUse(pixel_steps=60), 40, False, None),
        (KeyUse(pixel_steps=60), 41, False, 403),
        (KeyUse(pixel_steps=900), 1, True, 403),
        (KeyUse(waiting=2), 1, True, None),
        (KeyUse(waiting=3), 1, True, 429),
        (KeyUse(waiting=3), 1, False, None),  # a sync run does not wait
        (KeyUse(running=1), 1, False, None),
        (KeyUse(running=2), 1, False, 429),
        (KeyUse(running=2), 1, True, None),  # the queue's waits for its turn
    ],
)
def test_the_decision(use: KeyUse, steps: int, waits: bool, status: int | None) -> None:
    found = refusal(LIMITS, use, steps, waits)
    assert (found.status if found else None) == status


def test_only_what_passes_by_is_tried_again() -> None:
    """Clients try a 429 again, the Python one for nearly a minute; a spent budget must not be one."""
    too_many, spent = refusal(LIMITS, KeyUse(running=2), 1, False), refusal(LIMITS, KeyUse(), 101, False)
    assert too_many is not None
    assert spent is not None
    assert (too_many.headers()["x-fal-needs-retry"], spent.headers()["x-fal-needs-retry"]) == ("1", "0")
    assert too_many.headers()["retry-after"] == "5"
    copy = pickle.loads(pickle.dumps(too_many))  # noqa: S301 (made here)
    assert (type(copy), copy.body()) == (TooMany, too_many.body())


def test_a_key_begins_no_more_than_it_may_run() -> None:
    assert [may_begin(LIMITS, KeyUse(running=count)) for count in (0, 1, 2, 3)] == [True, True, False, False]
