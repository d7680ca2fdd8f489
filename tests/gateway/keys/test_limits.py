"""A key that has spent its budget is told so, once."""

from gateway.keys.base import spent
from gateway.ledger.models import TooMany


def test_what_is_left_is_told() -> None:
    assert "100 pixel-steps a day, 40 are left; this asks 41" in spent(100, 60, 41).detail
    assert "0 are left" in spent(100, 900, 1).detail


def test_only_what_passes_by_is_tried_again() -> None:
    """Clients try a 429 again, the Python one for nearly a minute; a spent budget must not be one."""
    too_many, over = TooMany("2 requests of this key are running."), spent(100, 100, 1)
    assert (too_many.status, over.status) == (429, 403)
    assert (too_many.headers()["x-fal-needs-retry"], over.headers()["x-fal-needs-retry"]) == ("1", "0")
    assert too_many.headers()["retry-after"] == "5"
