"""The scheduler: short jobs first, full calls, and a bound on every wait."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from pipelines.engine.executor import Executor
from pipelines.engine.scheduler import Scheduler
from pipelines.engine.tasks import Job, Task
from tests.pipelines.engine.fakes import Count, Counting, climb, job, waiting

PATIENCE = 8  # turns; not imported, for it is what the scheduler promises


@dataclass(frozen=True, eq=False)
class Prompt(Count):
    """Asked for once."""

    @property
    def cost(self) -> float:
        return 0.0


class Prompts(Counting):
    """The stage of what is asked for once."""

    name = "prompts"
    asked = Prompt


class Modest(Counting):
    """Does not want rows of unlike owners in one call."""

    def suits(self, taken: Sequence[Count], more: Count) -> bool:
        return all(ask.owner == more.owner for ask in taken)


def live(name: str, steps: int, number: int = 1) -> Job:
    made, _ = job(name, lambda: climb(1), steps)
    made.number = number
    return made


def asked(owner: Job, *, key: str = "same", rows: int = 1, kind: type[Count] = Count) -> Task:
    return waiting(owner, kind(0, key=key, rows=rows, owner=owner.id))


def scheduler_of(stage: Counting, *, one_at_a_time: bool = False) -> Scheduler:
    return Scheduler(Executor([stage, Prompts()], lambda: None), one_at_a_time=one_at_a_time)


def fair(cap: int = 8) -> Scheduler:
    return scheduler_of(Counting(cap))


def owners(call: Sequence[Task]) -> list[str]:
    return [task.job.id for task in call]


def test_without_asks_there_is_no_call() -> None:
    assert fair().next() == []


def test_asks_of_one_key_share_a_call_and_the_shortest_job_leads() -> None:
    scheduler = fair()
    for name, steps in (("long", 60), ("short", 4), ("middle", 30)):
        scheduler.file(asked(live(name, steps)))
    assert owners(scheduler.next()) == ["short", "middle", "long"]
    assert len(scheduler) == 0


def test_the_group_of_the_shortest_job_goes_first() -> None:
    scheduler = fair()
    scheduler.file(asked(live("long", 60), key="x"))
    scheduler.file(asked(live("short", 4), key="y"))
    assert owners(scheduler.next()) == ["short"]
    assert owners(scheduler.next()) == ["long"]


def test_work_left_counts_not_work_asked_for() -> None:
    scheduler = fair()
    nearly_done = live("nearly done", 60)
    nearly_done.done = 58
    scheduler.file(asked(live("begun", 4), key="x"))
    scheduler.file(asked(nearly_done, key="y"))
    assert owners(scheduler.next()) == ["nearly done"]


def test_large_pictures_are_longer_work_than_small_ones() -> None:
    scheduler = fair()
    scheduler.file(asked(live("large", 10), key="x", rows=4))
    scheduler.file(asked(live("small", 20), key="y", rows=1))
    assert owners(scheduler.next()) == ["small"]


def test_what_a_job_asks_for_once_goes_before_steps() -> None:
    scheduler = fair()
    scheduler.file(asked(live("steps", 1)))
    scheduler.file(asked(live("prompt", 60), kind=Prompt))
    assert owners(scheduler.next()) == ["prompt"]


def test_stages_do_not_share_calls() -> None:
    scheduler = fair()
    scheduler.file(asked(live("a", 1)))
    scheduler.file(asked(live("b", 1), kind=Prompt))
    assert len(scheduler.next()) == 1


def test_the_cap_is_filled_with_what_fits() -> None:
    scheduler = fair(cap=4)
    for name, rows in (("a", 2), ("b", 3), ("c", 2)):
        scheduler.file(asked(live(name, 1), rows=rows))
    assert owners(scheduler.next()) == ["a", "c"]
    assert owners(scheduler.next()) == ["b"]


def test_an_ask_above_the_cap_goes_alone() -> None:
    scheduler = fair(cap=2)
    scheduler.file(asked(live("big", 1), rows=9))
    scheduler.file(asked(live("small", 9), rows=1))
    assert owners(scheduler.next()) == ["big"]


def test_what_does_not_suit_a_call_waits_for_the_next() -> None:
    scheduler = scheduler_of(Modest())
    for owner in ("a", "b", "a"):
        scheduler.file(asked(live(owner, 1)))
    assert [owners(scheduler.next()) for _ in range(2)] == [["a", "a"], ["b"]]


def test_a_job_that_is_to_be_alone_shares_no_call_but_with_itself() -> None:
    scheduler = fair()
    apart = live("apart", 9, number=1)
    apart.alone = True
    for owner in (live("one", 1, number=2), apart, live("other", 1, number=3), apart):
        scheduler.file(asked(owner))
    assert [owners(scheduler.next()) for _ in range(2)] == [["one", "other"], ["apart", "apart"]]


@pytest.mark.parametrize("kind", [Count, Prompt])
def test_a_long_job_beside_an_endless_stream_of_short_ones_waits_a_bounded_time(kind: type[Count]) -> None:
    scheduler = fair()
    for at in range(3):
        scheduler.file(asked(live(f"before {at}", 1), key=f"before {at}"))
    scheduler.file(asked(live("long", 1000), key="long"))
    for turn in range(1, 100):
        scheduler.file(asked(live("short", 1), key=f"short {turn}", kind=kind))
        if owners(scheduler.next()) == ["long"]:
            break
    assert turn <= PATIENCE + 3 + 1


def test_an_ended_jobs_asks_are_forgotten() -> None:
    scheduler = fair()
    gone = live("gone", 1)
    scheduler.file(asked(gone))
    scheduler.file(asked(gone))
    scheduler.file(asked(live("stays", 1)))
    assert scheduler.drop(gone) == 2
    assert owners(scheduler.next()) == ["stays"]


def test_one_by_one_serves_the_job_that_came_first() -> None:
    scheduler = scheduler_of(Counting(), one_at_a_time=True)
    first, second = live("first", 60, number=1), live("second", 1, number=2)
    scheduler.file(asked(second))
    scheduler.file(asked(first))
    scheduler.file(asked(first))
    assert [owners(scheduler.next()) for _ in range(3)] == [["first"], ["first"], ["second"]]
    assert scheduler.next() == []


def test_one_by_one_forgets_ended_jobs() -> None:
    scheduler = scheduler_of(Counting(), one_at_a_time=True)
    gone = live("gone", 1)
    scheduler.file(asked(gone))
    assert scheduler.drop(gone) == 1
    assert len(scheduler) == 0
