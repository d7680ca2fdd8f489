"""What may be held follows the replicas that live."""

from gateway.replicas import STALE_S, Replicas


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_held_is_what_the_living_replicas_can_hold_and_a_few_more() -> None:
    clock = Clock()
    replicas = Replicas(look_ahead=2, most=100, clock=clock)
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


def test_no_more_is_held_than_the_operator_allows() -> None:
    replicas = Replicas(look_ahead=2, most=10)
    replicas.report("a", 8)
    replicas.report("b", 8)
    assert replicas.capacity() == 10
