"""What may be held follows the replicas that live."""

import pytest

from gateway.worker.capacity import STALE_S, ReplicaRegistry, Report


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_held_is_what_the_living_replicas_can_hold_and_a_few_more() -> None:
    clock = Clock()
    replicas = ReplicaRegistry(look_ahead=2, most=100, clock=clock)
    assert replicas.capacity() == 2
    replicas.report("a", 8)
    replicas.report("b", 4)
    replicas.report("a", 8)
    assert replicas.capacity() == 14
    clock.now = STALE_S
    replicas.report("b", 4)
    assert replicas.capacity() == 14
    clock.now = STALE_S + 0.1
    assert replicas.capacity() == 6
    clock.now = 3 * STALE_S
    assert replicas.capacity() == 2


def test_who_comes_changes_or_goes_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "fooocus.gateway")
    clock = Clock()
    replicas = ReplicaRegistry(look_ahead=2, most=100, clock=clock)
    for variants in (("base",), ("base",), ("base", "base + ab12 x 0.5"), ("base + ab12 x 0.5", "base")):
        replicas.report("a", 8, variants)
    assert replicas.living() == {"a": Report(8, ("base + ab12 x 0.5", "base"))}
    clock.now = 2 * STALE_S
    assert replicas.living() == replicas.living() == {}
    assert caplog.messages == [
        "replica a can hold 8 requests and has base",
        "replica a can hold 8 requests and has base, base + ab12 x 0.5",
        "replica a has been silent for 4 s; nothing more is meant for it",
    ]


def test_no_more_is_held_than_the_operator_allows() -> None:
    replicas = ReplicaRegistry(look_ahead=2, most=10)
    replicas.report("a", 8)
    replicas.report("b", 8)
    assert replicas.capacity() == 10


def test_other_bounds_hold_at_once() -> None:
    replicas = ReplicaRegistry(look_ahead=2, most=100)
    replicas.report("a", 8)
    replicas.bound(look_ahead=4, most=100)
    assert replicas.capacity() == 12
    replicas.bound(look_ahead=4, most=6)
    assert replicas.capacity() == 6
