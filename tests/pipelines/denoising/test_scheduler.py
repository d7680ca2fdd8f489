"""The scheduler: short jobs first, full calls, and a bound on every wait."""

from dataclasses import dataclass

import pytest

from pipelines.denoising.jobs import Job, Live, OpenAsk, Strand
from pipelines.denoising.scheduler import PATIENCE, FairScheduler, OneByOneScheduler
from tests.pipelines.denoising.fakes import Count, Counting, climb

STEPS = Counting()
ONCE = Counting()


@dataclass(frozen=True, eq=False)
class Prompt(Count):
    """Asked for once."""

    @property
    def cost(self) -> float:
        return 0.0


def live(name: str, steps: int, number: int = 1) -> Live:
    return Live(Job(name, lambda: climb(1), lambda *_: None, steps, lambda _: None), number)  # type: ignore[arg-type,return-value]


def ask(owner: Live, *, key: str = "same", rows: int = 1, stage: Counting = STEPS) -> OpenAsk:
    kind = Prompt if stage is ONCE else Count
    return OpenAsk(Strand(owner, climb(1)), kind(0, key=key, rows=rows, owner=owner.job.id), stage)


def fair(cap: int = 8) -> FairScheduler:
    return FairScheduler(lambda _: cap)


def owners(call: list[OpenAsk]) -> list[str]:
    return [opened.strand.live.job.id for opened in call]


def test_without_asks_there_is_no_call() -> None:
    assert fair().next() == []


def test_asks_of_one_key_share_a_call_and_the_shortest_job_leads() -> None:
    scheduler = fair()
    for name, steps in (("long", 60), ("short", 4), ("middle", 30)):
        scheduler.file(ask(live(name, steps)))
    assert owners(scheduler.next()) == ["short", "middle", "long"]
    assert len(scheduler) == 0


def test_the_group_of_the_shortest_job_goes_first() -> None:
    scheduler = fair()
    scheduler.file(ask(live("long", 60), key="x"))
    scheduler.file(ask(live("short", 4), key="y"))
    assert owners(scheduler.next()) == ["short"]
    assert owners(scheduler.next()) == ["long"]


def test_work_left_counts_not_work_asked_for() -> None:
    scheduler = fair()
    nearly_done = live("nearly done", 60)
    nearly_done.done = 58
    scheduler.file(ask(live("begun", 4), key="x"))
    scheduler.file(ask(nearly_done, key="y"))
    assert owners(scheduler.next()) == ["nearly done"]


def test_large_pictures_are_longer_work_than_small_ones() -> None:
    scheduler = fair()
    scheduler.file(ask(live("large", 10), key="x", rows=4))
    scheduler.file(ask(live("small", 20), key="y", rows=1))
    assert owners(scheduler.next()) == ["small"]


def test_what_a_job_asks_for_once_goes_before_steps() -> None:
    scheduler = fair()
    scheduler.file(ask(live("steps", 1)))
    scheduler.file(ask(live("prompt", 60), stage=ONCE))
    assert owners(scheduler.next()) == ["prompt"]


def test_stages_do_not_share_calls() -> None:
    scheduler = fair()
    scheduler.file(ask(live("a", 1)))
    scheduler.file(ask(live("b", 1), stage=ONCE))
    assert len(scheduler.next()) == 1


def test_the_cap_is_filled_with_what_fits() -> None:
    scheduler = fair(cap=4)
    for name, rows in (("a", 2), ("b", 3), ("c", 2)):
        scheduler.file(ask(live(name, 1), rows=rows))
    assert owners(scheduler.next()) == ["a", "c"]
    assert owners(scheduler.next()) == ["b"]


def test_an_ask_above_the_cap_goes_alone() -> None:
    scheduler = fair(cap=2)
    scheduler.file(ask(live("big", 1), rows=9))
    scheduler.file(ask(live("small", 9), rows=1))
    assert owners(scheduler.next()) == ["big"]


@pytest.mark.parametrize("stage", [STEPS, ONCE])
def test_a_long_job_beside_an_endless_stream_of_short_ones_waits_a_bounded_time(stage: Counting) -> None:
    scheduler = fair()
    for at in range(3):
        scheduler.file(ask(live(f"before {at}", 1), key=f"before {at}"))
    scheduler.file(ask(live("long", 1000), key="long"))
    for turn in range(1, 100):
        scheduler.file(ask(live("short", 1), key=f"short {turn}", stage=stage))
        if owners(scheduler.next()) == ["long"]:
            break
    assert turn <= PATIENCE + 3 + 1


def test_an_ended_jobs_asks_are_forgotten() -> None:
    scheduler = fair()
    gone = live("gone", 1)
    scheduler.file(ask(gone))
    scheduler.file(ask(gone))
    scheduler.file(ask(live("stays", 1)))
    assert scheduler.drop(gone) == 2
    assert owners(scheduler.next()) == ["stays"]


def test_one_by_one_serves_the_job_that_came_first() -> None:
    scheduler = OneByOneScheduler()
    first, second = live("first", 60, number=1), live("second", 1, number=2)
    scheduler.file(ask(second))
    scheduler.file(ask(first))
    scheduler.file(ask(first))
    assert [owners(scheduler.next()) for _ in range(3)] == [["first"], ["first"], ["second"]]
    assert scheduler.next() == []


def test_one_by_one_forgets_ended_jobs() -> None:
    scheduler = OneByOneScheduler()
    gone = live("gone", 1)
    scheduler.file(ask(gone))
    assert scheduler.drop(gone) == 1
    assert len(scheduler) == 0
