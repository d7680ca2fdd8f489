"""How an engine ends: closed, hanging, or without a device; and what it holds when it idles."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.engine.engine import Engine
from pipelines.engine.executor import Executor, Outcome
from pipelines.engine.scheduler import Scheduler
from pipelines.engine.tasks import Job, Start
from pipelines.errors import EngineDead, JobCancelled
from pipelines.events import Step
from tests.pipelines.engine.fakes import (
    Counting,
    Listener,
    climb,
    forked,
    hold,
    submit,
    told,
)


def test_a_closed_engine_tells_waiting_jobs_and_takes_no_more(stage: Counting) -> None:
    engine = Engine([stage], counted="count")
    hold(stage)
    listener = submit(engine, "a", lambda: climb(1000))
    closer = threading.Thread(target=engine.close)
    closer.start()
    stage.gate.release(1000)
    closer.join(timeout=20)
    assert isinstance(listener.last(), EngineDead)
    with pytest.raises(EngineDead):
        submit(engine, "b", lambda: climb(1))


def test_everything_is_told_before_an_engine_is_closed(stage: Counting) -> None:
    engine = Engine([stage], counted="count")
    listeners = [submit(engine, str(at), lambda: climb(1000)) for at in range(4)]
    engine.close()
    for listener in listeners:
        events = list(listener.events.queue)
        assert not isinstance(events[-1], Step)
        assert all(isinstance(event, Step) for event in events[:-1])


def test_a_job_that_is_being_prepared_while_the_engine_closes_learns_it(engine: Engine) -> None:
    begun, go_on = threading.Event(), threading.Event()
    listener = Listener()

    def prepare() -> Start:
        begun.set()
        assert go_on.wait(20)
        return lambda: told(climb(1))

    with ThreadPoolExecutor(1) as workers:
        engine.submit(Job("late", prepare, 1, listener), workers)
        assert begun.wait(20)
        engine.close()
        assert isinstance(listener.last(), EngineDead)
        go_on.set()
    assert listener.events.empty()


def test_a_call_that_hangs_is_told_to_whoever_waits_for_it(stage: Counting) -> None:
    engine = Engine([stage], counted="count", hang_after_s=0.2)
    hold(stage)
    listeners = [submit(engine, name, lambda: climb(1)) for name in "ab"]
    for listener in listeners:
        fault = listener.last()
        assert isinstance(fault, EngineDead)
        assert "running for more than 0.2 s" in str(fault)
    with pytest.raises(EngineDead, match="running for more"):
        engine.check()
    with pytest.raises(EngineDead):
        submit(engine, "c", lambda: climb(1))
    stage.gate.release(1000)
    engine.close()
    assert all(listener.events.empty() for listener in listeners)


@pytest.mark.usefixtures("talkative")
def test_a_call_that_comes_back_after_it_hung_is_told_to_nobody(stage: Counting) -> None:
    engine = Engine([stage], counted="count", hang_after_s=0.2)
    hold(stage)
    listener = submit(engine, "a", lambda: climb(3), steps=3)
    assert isinstance(listener.last(), EngineDead)
    stage.gate.release(1000)
    engine._thread.join(timeout=20)
    engine.close()
    assert listener.events.empty()


def test_a_call_that_hangs_does_not_keep_the_engine_from_closing(stage: Counting) -> None:
    engine = Engine([stage], counted="count", hang_after_s=0.2)
    hold(stage)
    submit(engine, "a", lambda: climb(1)).last()
    began = time.monotonic()
    engine.close()
    assert time.monotonic() - began < 15
    stage.gate.release(1000)


def test_an_engine_that_is_closed_while_a_call_hangs_tells_whoever_waits(stage: Counting) -> None:
    """Before the watchdog could have found it."""
    engine = Engine([stage], counted="count", hang_after_s=1.0)
    hold(stage)
    listener = submit(engine, "a", lambda: climb(1))
    engine.close()
    assert isinstance(listener.last(), EngineDead)
    with pytest.raises(EngineDead):
        engine.check()
    stage.gate.release(1000)


def test_many_calls_that_are_short_are_no_hang(stage: Counting) -> None:
    engine = Engine([stage], counted="count", hang_after_s=0.4)
    hold(stage)
    listener = submit(engine, "a", lambda: climb(8))
    for _ in range(8):
        time.sleep(0.1)
        stage.gate.release()
    assert listener.last()[0] == 8
    engine.close()


def test_one_at_a_time_batches_nothing_and_keeps_the_order_of_arrival(stage: Counting) -> None:
    engine = Engine([stage], counted="count", one_at_a_time=True)
    hold(stage)
    long = submit(engine, "long", lambda: forked(climb(5, owner="long"), climb(5, owner="long")), steps=10)
    short = submit(engine, "short", lambda: climb(1, owner="short"))
    stage.gate.release(1000)
    assert long.last()[0] == [5, 5]
    assert short.last()[0] == 1
    engine.close()
    assert [[ask.owner for ask in call] for call in stage.calls] == [["long"]] * 10 + [["short"]]


def test_an_engine_whose_scheduler_loses_a_task_dies_and_says_so(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would ever call it, and its caller would wait for ever."""
    monkeypatch.setattr(Scheduler, "file", lambda scheduler, task: None)
    fault = submit(engine, "lost", lambda: climb(2)).last()
    assert isinstance(fault, EngineDead)
    assert "wait for nothing" in str(fault)
    with pytest.raises(EngineDead, match="wait for nothing"):
        engine.check()


def test_an_engine_that_loses_an_answer_dies_and_says_so(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Executor, "run", lambda executor, tasks: Outcome())
    fault = submit(engine, "lost", lambda: climb(2)).last()
    assert isinstance(fault, EngineDead)
    assert "wait for nothing" in str(fault)


def test_an_engine_that_is_idle_finds_what_was_left_behind(
    engine: Engine, stage: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leak would be found here and not weeks later: here the tasks of an ended job are not counted."""
    monkeypatch.setattr(Scheduler, "drop", lambda scheduler, job: scheduler._waiting.clear() or 0)
    hold(stage)
    listener = submit(engine, "gone", lambda: climb(1000))
    stage.gate.release(3)
    while len(stage.calls) < 3:
        time.sleep(0.001)
    engine.cancel("gone")
    stage.gate.release(1000)
    assert isinstance(listener.last(), JobCancelled)
    engine._thread.join(timeout=20)
    with pytest.raises(EngineDead, match="asks made"):
        engine.check()
