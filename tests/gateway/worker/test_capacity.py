"""What a replica has, has taken and is asked for follows its reports and what was sent there."""

import pytest

from gateway.worker.capacity import AVOIDED_S, ON_ITS_WAY_S, REMEMBERED_HINTS, STALE_S, ReplicaRegistry, Report
from gateway.worker.placing import ReplicaState, Wanted
from pipelines.weights.at_hand import Weights
from tests.gateway.fakes import Clock

FILM = Weights("", "film")
FAST = Weights("lcm", "film")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def replicas(clock: Clock) -> ReplicaRegistry:
    return ReplicaRegistry(clock)


def _state(replicas: ReplicaRegistry, name: str) -> ReplicaState:
    return next(state for state in replicas.states() if state.name == name)


def test_who_comes_changes_or_goes_is_logged_once(
    replicas: ReplicaRegistry, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "fooocus.gateway")
    for variants in (("base",), ("base",), ("base", "base + ab12 x 0.5"), ("base + ab12 x 0.5", "base")):
        replicas.report("a", 8, variants, [FILM])
    assert replicas.living() == {"a": Report(8, ("base + ab12 x 0.5", "base"), (FILM,))}
    clock.now = 2 * STALE_S
    assert replicas.living() == replicas.living() == {}
    assert caplog.messages == [
        "replica a can hold 8 rows and has base",
        "replica a can hold 8 rows and has base, base + ab12 x 0.5",
        "replica a has been silent for 4 s; nothing more is meant for it",
    ]


def test_a_replica_takes_what_was_given_to_it_until_that_is_taken_back(replicas: ReplicaRegistry) -> None:
    replicas.report("a", 8)
    replicas.give("a", Wanted(2))
    replicas.give("a", Wanted(2))
    replicas.give("a", Wanted(4, FILM))
    assert _state(replicas, "a").taken == 8
    replicas.take_back("a", Wanted(2))
    replicas.take_back("a", Wanted(4, FILM))
    assert _state(replicas, "a").taken == 2


def test_what_it_draws_for_who_led_before_takes_room_until_it_ends(replicas: ReplicaRegistry) -> None:
    replicas.report("a", 8, live=3)
    assert (_state(replicas, "a").taken, _state(replicas, "a").requests) == (6.0, 3)
    replicas.report("a", 8, live=2)
    assert _state(replicas, "a").taken == 4.0
    replicas.report("a", 8)
    assert (_state(replicas, "a").taken, _state(replicas, "a").requests) == (0.0, 0)


def test_what_is_on_its_way_takes_no_room_from_them(replicas: ReplicaRegistry, clock: Clock) -> None:
    replicas.report("a", 8, live=2)
    replicas.give("a", Wanted(2.0))
    clock.now += 1
    replicas.report("a", 8, live=2)  # what was given has not come
    assert _state(replicas, "a").taken == 6.0
    clock.now += 1
    replicas.report("a", 8, live=3)
    assert _state(replicas, "a").taken == 6.0


def test_their_end_is_believed_though_others_take_their_room_at_once(replicas: ReplicaRegistry, clock: Clock) -> None:
    replicas.report("a", 8, live=2)
    for _ in range(2):
        replicas.give("a", Wanted(2.0))
    for _ in range(2 * int(ON_ITS_WAY_S)):
        clock.now += 1
        replicas.report("a", 8, live=2)
    assert _state(replicas, "a").taken == 4.0


def test_a_report_that_is_older_than_what_was_taken_back_takes_no_room(replicas: ReplicaRegistry) -> None:
    replicas.report("a", 8)
    replicas.give("a", Wanted(2.0))
    replicas.take_back("a", Wanted(2.0))
    replicas.report("a", 8, live=1)
    assert _state(replicas, "a").taken == 0.0


def test_a_replica_is_full_once_no_row_is_left(replicas: ReplicaRegistry) -> None:
    replicas.report("one", 2)
    assert not replicas.is_full("one")
    replicas.give("one", Wanted(3))
    assert replicas.is_full("one")
    assert not replicas.is_full("nobody")


def test_what_was_sent_to_a_silent_replica_counts_again_when_it_is_back(
    replicas: ReplicaRegistry, clock: Clock
) -> None:
    replicas.report("a", 8)
    replicas.give("a", Wanted(2))
    replicas.give("a", Wanted(4))
    clock.now = 2 * STALE_S
    assert replicas.states() == []
    replicas.take_back("a", Wanted(2))
    replicas.report("a", 8)
    assert _state(replicas, "a").taken == 4


def test_weights_are_at_hand_where_they_are_reported_or_on_their_way(replicas: ReplicaRegistry) -> None:
    replicas.report("a", 8, holds=[FILM])
    replicas.give("a", Wanted(2, FAST))
    assert (_state(replicas, "a").holds, _state(replicas, "a").bases) == ({FILM, FAST}, {"", "lcm"})
    replicas.take_back("a", Wanted(2, FAST))
    replicas.report("a", 8, holds=[FILM])
    assert _state(replicas, "a").holds == {FILM}


def test_a_hint_is_known_where_its_last_request_went(replicas: ReplicaRegistry) -> None:
    for name in ("a", "b"):
        replicas.report(name, 8)
        replicas.give(name, Wanted(2, hint="session"))
    replicas.take_back("b", Wanted(2, hint="session"))
    assert [{*state.hints} for state in replicas.states()] == [set(), {"session"}]


def test_no_more_hints_are_remembered_than_some_thousands(replicas: ReplicaRegistry) -> None:
    replicas.report("a", 8)
    for number in range(REMEMBERED_HINTS + 10):
        replicas.give("a", Wanted(1, hint=f"session {number}"))
    assert len(_state(replicas, "a").hints) == REMEMBERED_HINTS


def test_a_replica_to_which_serve_sends_nothing_gets_nothing_for_a_while(
    replicas: ReplicaRegistry, clock: Clock
) -> None:
    replicas.report("a", 8)
    replicas.avoid("a")
    assert replicas.states() == []
    assert list(replicas.living()) == ["a"]
    clock.now = AVOIDED_S
    replicas.report("a", 8)
    assert [state.name for state in replicas.states()] == ["a"]


def test_a_replica_that_goes_on_taking_nothing_is_tried_less_and_less(replicas: ReplicaRegistry, clock: Clock) -> None:
    tried: list[int] = []
    for second in range(301):
        clock.now = float(second)
        replicas.report("a", 8)
        if replicas.states():
            tried.append(second)
            replicas.avoid("a")
    assert tried == [0, 15, 45, 105, 225]
