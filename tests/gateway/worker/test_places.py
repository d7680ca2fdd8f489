"""Who is held asks for a place, waits in order while nobody has room, and gives the place back."""

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.worker.capacity import STALE_S, ReplicaRegistry
from gateway.worker.places import Places, Ticket
from gateway.worker.placing import Wanted
from pipelines.weights.at_hand import Weights
from tests.gateway.fakes import Clock

LOOK_AHEAD = 2


class Fleet:
    """Places at replicas of 4 rows. rooms: how often somebody was told that more may be held."""

    def __init__(self, *names: str) -> None:
        self.clock = Clock()
        self.replicas = ReplicaRegistry(self.clock)
        self.places = Places(self.replicas, LOOK_AHEAD, 100)
        self.rooms = 0
        self.places.tell(self._count)
        self.report(*names)

    def report(self, *names: str) -> None:
        for name in names:
            self.replicas.report(name, 4)
        self.places.place()

    def ask(self, name: str, rows: float = 2, rank: Sequence[int] = (0,), **wanted: str) -> Ticket:
        self.places.hold(name, 1, tuple(rank))
        wish = Wanted(rows, Weights("", wanted.get("loras", "")), wanted.get("hint", ""))
        return self.places.ask(name, wish, wanted.get("key", ""))

    def _count(self) -> None:
        self.rooms += 1


async def test_a_request_has_its_place_at_once_where_there_is_room() -> None:
    fleet = Fleet("a")
    assert await fleet.ask("r").placed() == "a"


async def test_a_key_that_has_taken_all_rows_does_not_keep_another_from_beginning() -> None:
    fleet = Fleet("a")
    first, second, third = (fleet.ask(name, 32, (0, number), key="many") for number, name in enumerate("abc"))
    other = fleet.ask("other", 2, (0, 9), key="other")
    assert (first.replica, second.replica, third.replica, other.replica) == ("a", "", "", "a")
    again = fleet.ask("again", 2, (0, 10), key="other")
    fleet.places.give_back(other)
    assert again.replica == "a"
    fleet.places.give_back(again)
    fleet.places.give_back(first)
    assert (second.replica, third.replica) == ("a", "")


async def test_without_a_replica_all_wait_and_are_placed_in_order_when_one_comes() -> None:
    fleet = Fleet()
    low = fleet.ask("low", 4, (1, 1))
    late = fleet.ask("late", 4, (0, 2))
    early = fleet.ask("early", 4, (0, 1))
    assert not low.replica + late.replica + early.replica
    fleet.report("a")
    order = []
    while ticket := next((each for each in (low, late, early) if each.replica), None):
        order.append(ticket.name)
        fleet.places.give_back(ticket)
    assert order == ["early", "late", "low"]


async def test_who_gives_a_place_back_lets_the_next_one_in() -> None:
    fleet = Fleet("a")
    first, second = fleet.ask("first", 4), fleet.ask("second", 4)
    waiting = asyncio.ensure_future(second.placed())
    await asyncio.sleep(0)
    assert not waiting.done()
    fleet.places.give_back(first)
    fleet.places.give_back(first)  # changes nothing
    assert await waiting == "a"


async def test_who_waits_no_more_is_not_placed() -> None:
    fleet = Fleet("a")
    first, second, third = (fleet.ask(name, 4) for name in ("first", "second", "third"))
    fleet.places.give_back(second)
    fleet.places.give_back(first)
    assert (second.replica, third.replica) == ("", "a")


async def test_a_lost_replica_gives_its_places_back() -> None:
    fleet = Fleet("a", "b")
    held = [fleet.ask(f"held {number}") for number in range(4)]
    waiting = fleet.ask("waiting")
    fleet.clock.now = STALE_S - 1
    fleet.report("b")
    fleet.clock.now = STALE_S + 1
    assert not waiting.replica
    for ticket in held:
        if ticket.replica == "a":  # its run fails over, and asks again
            fleet.places.give_back(ticket)
    assert not waiting.replica
    fleet.report("c")
    assert waiting.replica == "c"


async def test_what_serve_has_sent_elsewhere_counts_there() -> None:
    fleet = Fleet("a", "b")
    ticket = fleet.ask("r", 4)
    chosen, other = ticket.replica, {"a": "b", "b": "a"}[ticket.replica]
    fleet.places.moved(ticket, other)
    late = fleet.ask("late")
    assert not late.replica  # the other is full, and the chosen one takes nothing now
    fleet.places.give_back(ticket)
    assert late.replica == other != chosen


async def test_the_same_hint_and_the_same_weights_come_to_the_same_replica() -> None:
    fleet = Fleet(*"abcdef")
    for wanted in ({"loras": "film"}, {"hint": "session"}):
        seen = set()
        for number in range(6):
            ticket = fleet.ask(f"{wanted} {number}", **wanted)
            seen.add(await ticket.placed())
            fleet.places.give_back(ticket)
        assert len(seen) == 1


async def test_as_many_are_held_as_have_room_and_a_few_more() -> None:
    fleet = Fleet()
    assert fleet.places.capacity() == LOOK_AHEAD
    fleet.report("a", "b")
    assert fleet.places.capacity() == LOOK_AHEAD + 4  # of two rows each
    tickets = [fleet.ask(f"r{number}") for number in range(4)]
    assert fleet.places.capacity() == LOOK_AHEAD + 4
    waiting = fleet.ask("ahead")
    assert fleet.places.capacity() == LOOK_AHEAD + 4
    assert not fleet.places.room()
    fleet.places.give_back(tickets[0])  # it is delivered, which takes no place, and the one ahead has moved up
    assert waiting.replica
    assert fleet.places.capacity() == LOOK_AHEAD + 5
    fleet.places.let_go("r0", 1)
    assert fleet.places.capacity() == LOOK_AHEAD + 4


async def test_what_waits_for_a_download_takes_nobody_s_place() -> None:
    fleet = Fleet("a")
    for number in range(5):
        fleet.places.hold(f"r{number}", 1, (0, number))
        fleet.places.fetching(f"r{number}")
    assert fleet.places.capacity() == 5 + LOOK_AHEAD + 2


async def test_no_more_wait_for_downloads_than_could_be_drawn_soon() -> None:
    """Or all of them would come back as a queue in which no priority holds."""
    fleet = Fleet("a")
    most = LOOK_AHEAD + 4
    for number in range(2 * most):
        fleet.places.hold(f"r{number}", 1, (0, number))
        fleet.places.fetching(f"r{number}")
    assert fleet.places.capacity() == most + LOOK_AHEAD + 2


async def test_an_attempt_that_is_over_changes_nothing_of_the_next() -> None:
    fleet = Fleet("a")
    former = fleet.ask("r")
    fleet.places.hold("r", 2, (0,))
    before = fleet.places.capacity()
    fleet.places.give_back(former)
    assert fleet.places.capacity() == before + 1  # of the rows alone


async def test_there_is_room_for_no_more_than_who_is_prepared_leaves() -> None:
    fleet = Fleet("a")
    assert fleet.places.room() == 2
    fleet.places.hold("one", 1, (0, 1))
    assert fleet.places.room() == 1
    fleet.places.hold("other", 1, (0, 2))
    assert fleet.places.room() == 0


async def test_large_requests_are_not_held_in_the_numbers_of_small_ones() -> None:
    fleet = Fleet(*"abcdefgh")
    before = fleet.places.capacity()
    for number in range(40):
        fleet.places.give_back(fleet.ask(f"r{number}", 8))
        fleet.places.let_go(f"r{number}", 1)
    assert fleet.places.capacity() <= before / 3


async def test_no_more_are_held_than_the_operator_allows() -> None:
    fleet = Fleet(*"abcdefgh")
    fleet.places.bound(look_ahead=4, most=6)
    assert fleet.places.capacity() == 6


async def test_who_claims_is_told_when_more_may_be_held() -> None:
    fleet = Fleet("a")
    first, second = fleet.ask("first", 4), fleet.ask("second", 4)
    told = fleet.rooms
    fleet.places.give_back(first)
    assert second.replica
    assert fleet.rooms > told


async def test_a_new_attempt_is_not_let_go_with_the_former_one() -> None:
    fleet = Fleet("a")
    fleet.places.hold("r", 1, (0,))
    fleet.places.hold("r", 2, (0,))
    fleet.places.let_go("r", 1)
    ticket = fleet.places.ask("r", Wanted(2))
    assert fleet.places.capacity() == 1 + LOOK_AHEAD + 1
    fleet.places.give_back(ticket)
    fleet.places.let_go("r", 2)
    assert fleet.places.capacity() == LOOK_AHEAD + 2


@settings(max_examples=100)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.integers(1, 8), st.sampled_from(["", "film", "ink"])),
            st.tuples(st.just("give back"), st.integers(0, 50), st.just("")),
            st.tuples(st.just("report"), st.integers(0, 3), st.just("")),
            st.tuples(st.just("wait"), st.integers(1, 6), st.just("")),
        ),
        max_size=60,
    )
)
async def test_whatever_happens_nobody_waits_beside_a_replica_with_room(moves: list[tuple[str, int, str]]) -> None:
    """Nor is anybody counted who has gone."""
    fleet = Fleet()
    tickets: list[Ticket] = []
    for number, (move, value, loras) in enumerate(moves):
        match move:
            case "ask":
                tickets.append(fleet.ask(f"r{number}", value, (value % 2, number), loras=loras))
            case "give back" if tickets:
                fleet.places.give_back(tickets.pop(value % len(tickets)))
            case "report":
                fleet.report(f"replica {value}")
            case "wait":
                fleet.clock.now += value
                fleet.places.place()
        states = fleet.replicas.states()
        assert all(ticket.replica for ticket in tickets) or not any(state.has_room for state in states)
        taken = {
            state.name: sum(each.wanted.rows for each in tickets if each.replica == state.name) for state in states
        }
        assert {state.name: state.taken for state in states} == taken
