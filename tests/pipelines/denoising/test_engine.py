"""The engine: batching, order, cancellation and failure, on stages that only count."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.denoising.asks import Routine
from pipelines.denoising.engine import Engine
from pipelines.denoising.jobs import Job, JobCancelled
from pipelines.errors import EngineDead
from pipelines.events import Progress
from tests.pipelines.denoising.fakes import Count, Counting, climb, forked, hold, submit


@pytest.fixture
def stage() -> Counting:
    return Counting()


@pytest.fixture
def engine(stage: Counting) -> Iterator[Engine]:
    engine = Engine({Count: stage}, counted="count")
    yield engine
    stage.gate.release(1000)
    engine.close()


def test_a_job_runs_to_its_result_and_tells_its_steps(engine: Engine) -> None:
    _, listener = submit(engine, "a", climb(3), steps=3)
    result, timings = listener.last()
    assert result == 3
    assert set(timings) == {"count"}
    assert listener.steps == [Progress(done, 3) for done in range(4)]


def test_asks_with_equal_keys_share_calls(engine: Engine, stage: Counting) -> None:
    hold(stage)
    listeners = [submit(engine, str(at), climb(5))[1] for at in range(4)]
    stage.gate.release(1000)
    assert [listener.last()[0] for listener in listeners] == [5] * 4
    assert max(len(call) for call in stage.calls) == 4
    assert engine.stats().largest_call == 4


def test_asks_with_unlike_keys_never_share_a_call(engine: Engine, stage: Counting) -> None:
    listeners = [submit(engine, key, climb(5, key=key))[1] for key in ("x", "y")]
    for listener in listeners:
        listener.last()
    assert all(len({ask.key for ask in call}) == 1 for call in stage.calls)


def test_the_row_cap_is_kept_and_nobody_starves() -> None:
    stage = Counting(cap=3)
    engine = Engine({Count: stage}, counted="count")
    listeners = [submit(engine, str(at), climb(10, rows=1 + at % 2))[1] for at in range(7)]
    assert [listener.last()[0] for listener in listeners] == [10] * 7
    engine.close()
    assert max(sum(ask.rows for ask in call) for call in stage.calls) <= 3


def test_an_ask_above_the_cap_runs_alone(engine: Engine, stage: Counting) -> None:
    _, listener = submit(engine, "big", climb(2, rows=50))
    assert listener.last()[0] == 2


def test_a_short_job_that_arrives_later_finishes_first(engine: Engine, stage: Counting) -> None:
    hold(stage)
    _, long = submit(engine, "long", climb(60), steps=60)
    stage.gate.release(10)
    while len(stage.calls) < 10:
        time.sleep(0.001)
    _, short = submit(engine, "short", climb(4), steps=4)
    stage.gate.release(6)
    assert short.last()[0] == 4
    assert len(stage.calls) <= 16
    stage.gate.release(1000)
    assert long.last()[0] == 60


def test_a_cancelled_job_leaves_within_one_step(engine: Engine, stage: Counting) -> None:
    hold(stage)
    job, listener = submit(engine, "gone", climb(1000))
    stage.gate.release(5)
    while len(stage.calls) < 5:
        time.sleep(0.001)
    job.cancelled.set()
    stage.gate.release(1000)
    assert isinstance(listener.last(), JobCancelled)
    assert len(stage.calls) <= 6
    assert engine.stats().live_jobs == 0


def test_a_fork_answers_in_order_and_counts_all_branches(engine: Engine) -> None:
    _, listener = submit(engine, "fork", forked(climb(1), climb(3), climb(2, start=10)), steps=6)
    assert listener.last()[0] == [1, 3, 12]
    assert [progress.step for progress in listener.steps] == list(range(7))


def test_branches_of_a_fork_share_calls(engine: Engine, stage: Counting) -> None:
    _, listener = submit(engine, "fork", forked(*(climb(4) for _ in range(3))))
    listener.last()
    assert [len(call) for call in stage.calls] == [3, 3, 3, 3]


def test_a_job_that_poisons_a_call_fails_alone(engine: Engine, stage: Counting) -> None:
    hold(stage)
    _, good = submit(engine, "good", climb(3))
    _, bad = submit(engine, "bad", climb(3, start=-5))
    _, also = submit(engine, "also", climb(3))
    stage.gate.release(1000)
    assert isinstance(bad.last(), ValueError)
    assert good.last()[0] == also.last()[0] == 3


def test_a_fault_in_a_branch_ends_its_job_once(engine: Engine) -> None:
    _, listener = submit(engine, "half", forked(climb(3), climb(3, start=-5)))
    assert isinstance(listener.last(), ValueError)
    time.sleep(0.05)
    assert listener.events.empty()


def test_a_fault_in_a_jobs_own_code_spares_the_others(engine: Engine) -> None:
    def broken() -> Routine:
        yield Count(0)
        raise KeyError("broken")

    _, bad = submit(engine, "bad", broken())
    _, good = submit(engine, "good", climb(3))
    assert isinstance(bad.last(), KeyError)
    assert good.last()[0] == 3


def test_a_listener_that_raises_does_not_stop_the_engine(engine: Engine) -> None:
    def listen(event: Any) -> None:
        raise RuntimeError("deaf")

    engine.submit(Job("deaf", lambda: climb(2), lambda result, timings: result, 2, listen))  # type: ignore[arg-type]
    _, good = submit(engine, "good", climb(3))
    assert good.last()[0] == 3


def test_a_closed_engine_tells_waiting_jobs_and_takes_no_more(stage: Counting) -> None:
    engine = Engine({Count: stage}, counted="count")
    hold(stage)
    _, listener = submit(engine, "a", climb(1000))
    closer = threading.Thread(target=engine.close)
    closer.start()
    stage.gate.release(1000)
    closer.join(timeout=20)
    assert isinstance(listener.last(), EngineDead)
    with pytest.raises(EngineDead):
        submit(engine, "b", climb(1))


def test_a_call_that_hangs_is_told_to_whoever_waits_for_it(stage: Counting) -> None:
    engine = Engine({Count: stage}, counted="count", hang_after_s=0.2)
    hold(stage)
    listeners = [submit(engine, name, climb(1))[1] for name in "ab"]
    for listener in listeners:
        fault = listener.last()
        assert isinstance(fault, EngineDead)
        assert "running for more than 0.2 s" in str(fault)
    with pytest.raises(EngineDead, match="running for more"):
        engine.check()
    with pytest.raises(EngineDead):
        submit(engine, "c", climb(1))
    stage.gate.release(1000)
    engine.close()
    assert all(listener.events.empty() for listener in listeners)


def test_a_call_that_hangs_does_not_keep_the_engine_from_closing(stage: Counting) -> None:
    engine = Engine({Count: stage}, counted="count", hang_after_s=0.2)
    hold(stage)
    submit(engine, "a", climb(1))[1].last()
    began = time.monotonic()
    engine.close()
    assert time.monotonic() - began < 15
    stage.gate.release(1000)


def test_an_engine_that_is_closed_while_a_call_hangs_tells_whoever_waits(stage: Counting) -> None:
    """Before the watchdog could have found it."""
    engine = Engine({Count: stage}, counted="count", hang_after_s=1.0)
    hold(stage)
    _, listener = submit(engine, "a", climb(1))
    engine.close()
    assert isinstance(listener.last(), EngineDead)
    with pytest.raises(EngineDead):
        engine.check()
    stage.gate.release(1000)


def test_many_calls_that_are_short_are_no_hang(stage: Counting) -> None:
    engine = Engine({Count: stage}, counted="count", hang_after_s=0.4)
    hold(stage)
    _, listener = submit(engine, "a", climb(8))
    for _ in range(8):
        time.sleep(0.1)
        stage.gate.release()
    assert listener.last()[0] == 8
    engine.close()


def test_one_at_a_time_batches_nothing_and_keeps_the_order_of_arrival(stage: Counting) -> None:
    engine = Engine({Count: stage}, counted="count", one_at_a_time=True)
    hold(stage)
    long = submit(engine, "long", forked(climb(5, owner="long"), climb(5, owner="long")), steps=10)[1]
    short = submit(engine, "short", climb(1, owner="short"))[1]
    stage.gate.release(1000)
    assert long.last()[0] == [5, 5]
    assert short.last()[0] == 1
    engine.close()
    assert [[ask.owner for ask in call] for call in stage.calls] == [["long"]] * 10 + [["short"]]


def test_an_engine_that_is_idle_finds_what_was_left_behind(engine: Engine, stage: Counting) -> None:
    assert submit(engine, "a", climb(2))[1].last()[0] == 2
    engine._asked += 1  # as if an ask had been lost
    assert submit(engine, "b", climb(2))[1].last()[0] == 2
    engine._thread.join(timeout=20)
    with pytest.raises(EngineDead, match="asks are open"):
        engine.check()
