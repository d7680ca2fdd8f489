"""Who draws a request: a replica that has its weights, unless another is much emptier, and never one that is full."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.worker.placing import OWN, RULES, ReplicaState, Waiting, Wanted, choose, choose_next
from pipelines.weights.at_hand import Weights

FILM, INK, ANIME = (Weights("", loras) for loras in ("film x 1", "ink x 0.5", "anime x 1"))
FAST = Weights("lcm x 1", "film x 1")
WEIGHTS = [Weights(), FILM, INK, ANIME, FAST, Weights("lcm x 1")]

weights = st.sampled_from(WEIGHTS)
hints = st.sampled_from(["", "session-1", "session-2"])
wanted = st.builds(Wanted, st.integers(1, 20), weights, hints)


@st.composite
def fleets(draw: st.DrawFn, least: int = 0) -> list[ReplicaState]:
    count = draw(st.integers(least, 6))
    return [
        _replica(
            f"r{number}",
            draw(st.sampled_from([0, 4, 16])),
            draw(st.integers(0, 20)),
            draw(st.sets(weights, max_size=3)),
            [*draw(st.sets(hints.filter(bool), max_size=1))],
        )
        for number in range(count)
    ]


def _replica(
    name: str,
    rows: float = 16,
    taken: float = 0,
    holds: Sequence[Weights] | set[Weights] = (),
    hints: Sequence[str] = (),
) -> ReplicaState:
    return ReplicaState(name, rows, taken, frozenset(holds), frozenset(each.base for each in holds), frozenset(hints))


def _has_at_hand(replica: ReplicaState, wish: Wanted) -> bool:
    return wish.weights == OWN or wish.weights in replica.holds


def test_one_that_has_the_weights_draws_it() -> None:
    fleet = [_replica("a"), _replica("b", taken=4, holds=[FILM]), _replica("c", holds=[INK])]
    assert choose(fleet, Wanted(2, FILM)) == "b"


def test_one_that_has_the_base_alone_goes_before_one_that_has_nothing() -> None:
    fleet = [_replica("a"), _replica("b", taken=2, holds=[Weights("lcm x 1", "ink x 1")])]
    assert choose(fleet, Wanted(2, FAST)) == "b"


def test_one_that_is_much_emptier_draws_it_instead() -> None:
    fleet = [_replica("a"), _replica("b", taken=9, holds=[FILM])]
    assert choose(fleet, Wanted(2, FILM)) == "a"


def test_weights_that_are_asked_for_at_once_come_to_be_at_several_replicas() -> None:
    fleet = [_replica("a", holds=[FILM]), _replica("b"), _replica("c")]
    for _ in range(12):
        name = choose(fleet, Wanted(2, FILM))
        chosen = next(each for each in fleet if each.name == name)
        chosen.taken, chosen.holds = chosen.taken + 2, {*chosen.holds, FILM}
    assert all(FILM in each.holds for each in fleet)
    assert sorted(each.taken for each in fleet) == [8, 8, 8]


def test_weights_that_nobody_has_come_to_the_same_replica_every_time() -> None:
    fleet = [_replica(f"r{number}") for number in range(8)]
    for each in WEIGHTS[1:]:
        assert len({choose(order, Wanted(2, each)) for order in (fleet, fleet[::-1], fleet[3:] + fleet[:3])}) == 1
    places = {choose(fleet, Wanted(2, Weights("", f"lora {number} x 1"))) for number in range(64)}
    assert len(places) == 8


def test_a_hint_leads_to_the_replica_that_had_it_last() -> None:
    fleet = [_replica("a"), _replica("b", taken=3, hints=["session-1"])]
    assert choose(fleet, Wanted(2, hint="session-1")) == "b"
    assert choose(fleet, Wanted(2, hint="session-2")) == "a"


def test_a_large_request_goes_where_all_of_it_has_room() -> None:
    fleet = [_replica("a", taken=10, holds=[FILM]), _replica("b", taken=8)]
    assert choose(fleet, Wanted(8, FILM)) == "b"


def test_a_large_request_overfills_a_replica_rather_than_to_wait() -> None:
    assert choose([_replica("a", taken=15)], Wanted(8)) == "a"
    assert choose([_replica("a", rows=4)], Wanted(8)) == "a"


@given(fleets(), wanted)
def test_nobody_is_given_to_a_full_one_and_nobody_waits_while_one_has_room(
    fleet: list[ReplicaState], wish: Wanted
) -> None:
    chosen = choose(fleet, wish)
    free = {each.name for each in fleet if each.taken < each.rows}
    assert chosen in free if free else chosen is None


@given(fleets(), wanted)
def test_no_replica_is_overfilled_beside_one_that_has_room_for_all_of_it(
    fleet: list[ReplicaState], wish: Wanted
) -> None:
    chosen = next((each for each in fleet if each.name == choose(fleet, wish)), None)
    for other in fleet:
        if chosen is not None and other.rows and other.taken + wish.rows <= other.rows:
            assert not chosen.taken or chosen.taken + wish.rows <= chosen.rows


@given(fleets(), wanted)
def test_one_that_has_the_weights_draws_it_within_the_bound(fleet: list[ReplicaState], wish: Wanted) -> None:
    """And where another draws it, each that has them is full, has no room for all of it, or is fuller by the bound."""
    wish = Wanted(wish.rows, wish.weights)
    chosen = next((each for each in fleet if each.name == choose(fleet, wish)), None)
    if chosen is None or _has_at_hand(chosen, wish):
        return
    after = (chosen.taken + wish.rows) / chosen.rows
    for holder in (each for each in fleet if each.rows and each.has_room and _has_at_hand(each, wish)):
        overfills = holder.taken and holder.taken + wish.rows > holder.rows
        assert overfills or (holder.taken + wish.rows) / holder.rows >= after + RULES.at_hand - RULES.base


@given(fleets(), wanted)
def test_no_replica_is_fuller_than_the_emptiest_by_more_than_the_bound(fleet: list[ReplicaState], wish: Wanted) -> None:
    chosen = next((each for each in fleet if each.name == choose(fleet, wish)), None)
    most = RULES.at_hand + RULES.hint
    for other in fleet:
        if chosen is not None and other.rows and other.taken + wish.rows <= other.rows:
            assert (chosen.taken + wish.rows) / chosen.rows <= (other.taken + wish.rows) / other.rows + most + 1e-9


def _waiting(*each: tuple[int, Wanted]) -> list[Waiting]:
    return [Waiting(f"w{number}", wish, (priority, number)) for number, (priority, wish) in enumerate(each)]


def test_one_whose_weights_are_where_there_is_room_passes_one_whose_are_elsewhere_a_few_times() -> None:
    fleet = [_replica("a", rows=2, holds=[FILM]), _replica("b", rows=2, taken=2, holds=[INK])]
    waiting = _waiting((0, Wanted(2, INK)), *[(0, Wanted(2, FILM))] * 11)
    order = []
    while found := choose_next(waiting, fleet):
        one, _ = found
        for passed in waiting[: waiting.index(one)]:
            passed.passed += 1
        waiting.remove(one)
        order.append(one.name)
    assert order == [*(f"w{number}" for number in range(1, RULES.passes + 1)), "w0", "w9", "w10", "w11"]


def test_one_whose_weights_are_nowhere_is_not_passed() -> None:
    fleet = [_replica("a", rows=2, holds=[FILM])]
    waiting = _waiting((0, Wanted(2, INK)), (0, Wanted(2, FILM)))
    assert choose_next(waiting, fleet) == (waiting[0], "a")


def test_nothing_of_less_priority_passes() -> None:
    fleet = [_replica("a", rows=2, holds=[FILM]), _replica("b", rows=2, taken=2, holds=[INK])]
    waiting = _waiting((0, Wanted(2, INK)), (1, Wanted(2, FILM)))
    assert choose_next(waiting, fleet) == (waiting[0], "a")


def _of_keys(*keys: str) -> list[Waiting]:
    return [Waiting(f"w{number}", Wanted(8), (0, number), key=key) for number, key in enumerate(keys)]


def test_a_key_without_a_place_gets_one_at_the_emptiest_of_full_replicas() -> None:
    fleet = [_replica("a", rows=8, taken=12), _replica("b", rows=8, taken=8)]
    waiting = _of_keys("many", "many", "other")
    assert choose_next(waiting, fleet, placed={"many"}) == (waiting[2], "b")


def test_one_request_that_is_larger_than_a_replica_does_not_keep_another_key_from_it() -> None:
    fleet = [_replica("a", rows=8, taken=99)]
    fleet[0].requests = 1
    assert choose_next(_of_keys("other"), fleet, placed={"many"}) is not None


def test_no_replica_is_crowded_beyond_the_bound_nor_for_who_has_a_place_or_no_key() -> None:
    fleet = [_replica("a", rows=8, taken=16)]
    fleet[0].requests = 8
    assert choose_next(_of_keys("other"), fleet, placed={"many"}) is None
    fleet[0].requests = 4
    assert choose_next(_of_keys("many", ""), fleet, placed={"many"}) is None


@settings(max_examples=200)
@given(fleets(least=1), st.lists(st.tuples(st.integers(0, 1), wanted), max_size=12))
def test_all_that_wait_are_placed_in_bounded_order_while_there_is_room(
    fleet: list[ReplicaState], wishes: list[tuple[int, Wanted]]
) -> None:
    waiting = _waiting(*sorted(wishes, key=lambda each: each[0]))
    while found := choose_next(waiting, fleet):
        one, name = found
        chosen = next(each for each in fleet if each.name == name)
        assert chosen.has_room
        before = waiting[: waiting.index(one)]
        assert len(before) < RULES.reach
        assert all(other.rank[0] == one.rank[0] for other in before)
        for passed in before:
            passed.passed += 1
            assert passed.passed <= RULES.passes
        waiting.remove(one)
        chosen.taken += one.wanted.rows
    assert not waiting or not any(each.has_room for each in fleet)
