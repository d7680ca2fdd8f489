"""The engine: batching, order, cancellation and failure, on stages that only count."""

import gc
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from pipelines.engine.engine import Engine
from pipelines.engine.tasks import Answers, Ask, Job, Routine, Start, ask
from pipelines.errors import DrawingFault, EngineDead, InputFault, JobCancelled
from pipelines.events import Step
from tests.pipelines.engine.fakes import (
    AtOnce,
    Count,
    Counting,
    Listener,
    Spoiling,
    climb,
    forked,
    hold,
    job,
    submit,
    told,
)


@pytest.mark.usefixtures("talkative")
def test_a_job_runs_to_its_result_and_tells_its_steps(engine: Engine) -> None:
    listener = submit(engine, "a", lambda: climb(3), steps=3)
    result, timings = listener.last()
    assert result == 3
    assert set(timings) == {"count"}
    assert listener.steps == [Step(done, 3) for done in range(4)]


def test_a_job_tells_of_its_steps_at_most_four_times_a_second_and_of_the_last(engine: Engine, stage: Counting) -> None:
    hold(stage)
    began = time.monotonic()
    listener = submit(engine, "a", lambda: climb(80), steps=80)
    for _ in range(80):
        time.sleep(0.01)
        stage.gate.release()
    assert listener.last()[0] == 80
    assert 3 <= len(listener.steps) <= 2 + 4 * (time.monotonic() - began)
    assert (listener.steps[0], listener.steps[-1]) == (Step(0, 80), Step(80, 80))


def test_asks_with_equal_keys_share_calls(engine: Engine, stage: Counting) -> None:
    hold(stage)
    listeners = [submit(engine, str(at), lambda: climb(5)) for at in range(4)]
    stage.gate.release(1000)
    assert [listener.last()[0] for listener in listeners] == [5] * 4
    assert max(len(call) for call in stage.calls) == 4
    assert engine.stats().largest_call == 4


def test_asks_with_unlike_keys_never_share_a_call(engine: Engine, stage: Counting) -> None:
    listeners = [submit(engine, key, lambda key=key: climb(5, key=key)) for key in ("x", "y")]  # type: ignore[misc]
    for listener in listeners:
        listener.last()
    assert all(len({ask.key for ask in call}) == 1 for call in stage.calls)


def test_the_row_cap_is_kept_and_nobody_starves() -> None:
    stage = Counting(cap=3)
    engine = Engine([stage], counted="count")
    listeners = [submit(engine, str(at), lambda rows=1 + at % 2: climb(10, rows=rows)) for at in range(7)]  # type: ignore[misc]
    assert [listener.last()[0] for listener in listeners] == [10] * 7
    engine.close()
    assert max(sum(ask.rows for ask in call) for call in stage.calls) <= 3


def test_an_ask_above_the_cap_runs_alone(engine: Engine) -> None:
    assert submit(engine, "big", lambda: climb(2, rows=50)).last()[0] == 2


def test_a_short_job_that_arrives_later_finishes_first(engine: Engine, stage: Counting) -> None:
    hold(stage)
    long = submit(engine, "long", lambda: climb(60), steps=60)
    stage.gate.release(10)
    while len(stage.calls) < 10:
        time.sleep(0.001)
    short = submit(engine, "short", lambda: climb(4), steps=4)
    stage.gate.release(6)
    assert short.last()[0] == 4
    assert len(stage.calls) <= 16
    stage.gate.release(1000)
    assert long.last()[0] == 60


def test_a_cancelled_job_leaves_within_one_step(engine: Engine, stage: Counting) -> None:
    hold(stage)
    listener = submit(engine, "gone", lambda: climb(1000))
    stage.gate.release(5)
    while len(stage.calls) < 5:
        time.sleep(0.001)
    engine.cancel("gone")
    stage.gate.release(1000)
    assert isinstance(listener.last(), JobCancelled)
    assert len(stage.calls) <= 6
    assert engine.stats().live_jobs == 0


def test_a_job_that_is_cancelled_before_its_turn_to_be_prepared_never_is(engine: Engine) -> None:
    held, prepared = threading.Event(), list[str]()
    listener = Listener()

    def prepare() -> Start:
        prepared.append("late")
        return lambda: told(climb(1))

    with ThreadPoolExecutor(1) as workers:
        workers.submit(held.wait, 20)
        engine.submit(Job("late", prepare, 1, listener), workers)
        engine.cancel("late")
        held.set()
        assert isinstance(listener.last(), JobCancelled)
    assert prepared == []


def test_a_cancelled_job_is_not_held_by_an_engine_that_idles(engine: Engine, stage: Counting) -> None:
    hold(stage)
    submitted, listener = job("gone", lambda: climb(1000))
    engine.submit(submitted, AtOnce())
    engine.cancel("gone")
    stage.gate.release(1000)
    assert isinstance(listener.last(), JobCancelled)
    held = weakref.ref(submitted)
    del submitted, listener
    for _ in range(2000):
        gc.collect()
        if held() is None:
            return
        time.sleep(0.005)
    raise AssertionError("the job is held")


def test_an_unknown_job_can_be_cancelled(engine: Engine) -> None:
    engine.cancel("nobody")
    assert submit(engine, "a", lambda: climb(1)).last()[0] == 1


def test_a_job_that_cannot_be_prepared_ends_with_the_fault(engine: Engine) -> None:
    listener = Listener()

    def prepare() -> Start:
        raise InputFault("type", "too long")

    engine.submit(Job("a", prepare, 1, listener), AtOnce())
    assert isinstance(listener.last(), InputFault)
    assert submit(engine, "b", lambda: climb(1)).last()[0] == 1


def test_a_device_that_is_lost_while_a_job_is_prepared_ends_the_engine(engine: Engine, stage: Counting) -> None:
    hold(stage)
    other, listener = submit(engine, "other", lambda: climb(3)), Listener()

    def prepare() -> Start:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    engine.submit(Job("a", prepare, 1, listener), AtOnce())
    assert isinstance(listener.last(), EngineDead)
    assert isinstance(other.last(), EngineDead)
    with pytest.raises(EngineDead, match="lost"):
        engine.check()
    stage.gate.release(1000)


def test_a_job_that_does_not_fit_while_it_is_prepared_fails_with_advice(engine: Engine) -> None:
    listener = Listener()

    def prepare() -> Start:
        raise torch.OutOfMemoryError("CUDA out of memory")

    engine.submit(Job("a", prepare, 1, listener), AtOnce())
    assert isinstance(fault := listener.last(), DrawingFault)
    assert "smaller" in str(fault)
    assert submit(engine, "b", lambda: climb(1)).last()[0] == 1


def test_others_are_drawn_while_a_job_is_prepared(engine: Engine) -> None:
    begun, go_on = threading.Event(), threading.Event()
    slow = Listener()

    def prepare() -> Start:
        begun.set()
        assert go_on.wait(20)
        return lambda: told(climb(1))

    with ThreadPoolExecutor(1) as workers:
        engine.submit(Job("slow", prepare, 1, slow), workers)
        assert begun.wait(20)
        assert submit(engine, "ready", lambda: climb(3)).last()[0] == 3
        assert slow.events.empty()
        go_on.set()
        assert slow.last()[0] == 1


@pytest.mark.usefixtures("talkative")
def test_a_fork_answers_in_order_and_counts_all_branches(engine: Engine) -> None:
    listener = submit(engine, "fork", lambda: forked(climb(1), climb(3), climb(2, start=10)), steps=6)
    assert listener.last()[0] == [1, 3, 12]
    assert [progress.step for progress in listener.steps] == list(range(7))


def test_branches_of_a_fork_share_calls(engine: Engine, stage: Counting) -> None:
    submit(engine, "fork", lambda: forked(*(climb(4) for _ in range(3)))).last()
    assert [len(call) for call in stage.calls] == [3, 3, 3, 3]


def test_a_fork_of_nothing_is_answered(engine: Engine) -> None:
    assert submit(engine, "fork", lambda: forked()).last()[0] == []


def test_a_fork_may_fork(engine: Engine) -> None:
    def tree(deep: int) -> Routine[Any]:
        return forked(tree(deep - 1), climb(deep), tree(deep - 1)) if deep else climb(1)

    assert submit(engine, "tree", lambda: tree(2)).last()[0] == [[1, 1, 1], 2, [1, 1, 1]]


def test_a_job_that_poisons_a_call_fails_alone(engine: Engine, stage: Counting) -> None:
    hold(stage)
    good = submit(engine, "good", lambda: climb(3))
    bad = submit(engine, "bad", lambda: climb(3, start=-5))
    also = submit(engine, "also", lambda: climb(3))
    stage.gate.release(1000)
    assert isinstance(bad.last(), ValueError)
    assert good.last()[0] == also.last()[0] == 3


def test_a_job_whose_answer_is_not_finite_is_begun_again_alone() -> None:
    """Its neighbours may have spoilt it: nobody else is begun again, and it shares no call any more."""
    stage = Spoiling(lambda ask, call: ask.owner == "sick" and ask.value == 2 and len(call) > 1)
    engine = Engine([stage], counted="count")
    hold(stage)
    jobs = {name: submit(engine, name, lambda name=name: climb(5, owner=name), 5) for name in ("well", "sick", "other")}  # type: ignore[misc]
    stage.gate.release(1000)
    assert [listener.last()[0] for listener in jobs.values()] == [5, 5, 5]
    assert engine.stats().retried == 1
    engine.close()
    asked = {name: [ask.value for call in stage.calls for ask in call if ask.owner == name] for name in jobs}
    assert asked == {"well": [0, 1, 2, 3, 4], "sick": [0, 1, 2, 0, 1, 2, 3, 4], "other": [0, 1, 2, 3, 4]}
    again = [call for call in stage.calls if any(ask.owner == "sick" for ask in call)][-5:]
    assert [len(call) for call in again] == [1] * 5


def test_a_job_whose_answers_alone_are_not_finite_either_fails_with_what_happened() -> None:
    stage = Spoiling(lambda ask, call: ask.owner == "sick" and ask.value == 2)
    engine = Engine([stage], counted="count")
    hold(stage)
    sick, well = (submit(engine, name, lambda name=name: climb(5, owner=name)) for name in ("sick", "well"))  # type: ignore[misc]
    stage.gate.release(1000)
    fault = sick.last()
    assert isinstance(fault, DrawingFault)
    assert "not finite" in str(fault)
    assert well.last()[0] == 5
    assert submit(engine, "next", lambda: climb(1)).last()[0] == 1
    engine.close()
    assert [ask.value for call in stage.calls for ask in call if ask.owner == "sick"] == [0, 1, 2, 0, 1, 2]


@pytest.mark.usefixtures("talkative")
def test_progress_does_not_go_back_when_a_job_is_begun_again() -> None:
    spoilt = [True]  # once
    engine = Engine([Spoiling(lambda ask, call: ask.value == 3 and spoilt and spoilt.pop())], counted="count")
    listener = submit(engine, "a", lambda: climb(5), steps=5)
    assert listener.last()[0] == 5
    engine.close()
    assert [progress.step for progress in listener.steps] == list(range(6))


def test_a_fault_in_a_branch_ends_its_job_once(engine: Engine) -> None:
    listener = submit(engine, "half", lambda: forked(climb(3), climb(3, start=-5)))
    assert isinstance(listener.last(), ValueError)
    assert submit(engine, "next", lambda: climb(3)).last()[0] == 3
    assert listener.events.empty()


def test_a_fault_in_a_jobs_own_code_spares_the_others(engine: Engine) -> None:
    def broken() -> Routine[int]:
        yield from ask(Count(0))
        raise KeyError("broken")

    bad, good = submit(engine, "bad", broken), submit(engine, "good", lambda: climb(3))
    assert isinstance(bad.last(), KeyError)
    assert good.last()[0] == 3


def test_an_ask_that_nobody_serves_ends_its_job_alone(engine: Engine) -> None:
    class Foreign(Ask[int]):
        """Of no stage."""

    bad, good = submit(engine, "bad", lambda: ask(Foreign())), submit(engine, "good", lambda: climb(3))
    fault = bad.last()
    assert isinstance(fault, LookupError)
    assert "Foreign" in str(fault)
    assert good.last()[0] == 3


def test_a_last_event_that_cannot_be_made_ends_its_job_with_the_fault(engine: Engine) -> None:
    def broken() -> Routine[Any]:
        yield from ask(Count(0))

        def last(timings: Any) -> Any:
            raise KeyError("no pixels")

        return last

    listener = Listener()
    engine.submit(Job("bad", lambda: broken, 1, listener), AtOnce())
    assert isinstance(listener.last(), KeyError)
    assert submit(engine, "good", lambda: climb(3)).last()[0] == 3


def test_a_listener_that_raises_does_not_stop_the_engine(engine: Engine) -> None:
    def listen(event: Any) -> None:
        raise RuntimeError("deaf")

    deaf, _ = job("deaf", lambda: climb(2), 2)
    deaf.on_event = listen
    engine.submit(deaf, AtOnce())
    assert submit(engine, "good", lambda: climb(3)).last()[0] == 3


def test_a_listener_that_is_slow_does_not_stop_the_engine(engine: Engine, stage: Counting) -> None:
    """It delays what others hear, but no call."""
    go_on = threading.Event()
    slow, _ = job("slow", lambda: climb(2), 2)
    slow.on_event = lambda event: go_on.wait(20) and None
    engine.submit(slow, AtOnce())
    listener = submit(engine, "good", lambda: climb(30, owner="good"))
    deadline = time.monotonic() + 20
    while sum(ask.owner == "good" for call in stage.calls for ask in call) < 30 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not go_on.is_set()
    assert listener.events.empty()
    go_on.set()
    assert listener.last()[0] == 30


def test_listeners_are_all_called_on_one_thread(engine: Engine) -> None:
    threads = set[int]()
    listeners = [Listener() for _ in range(3)]
    for name, listener in zip("abc", listeners, strict=True):
        made, _ = job(name, lambda: climb(3), 3)
        made.on_event = lambda event, listener=listener: (threads.add(threading.get_ident()), listener(event))  # type: ignore[misc]
        engine.submit(made, AtOnce())
    for listener in listeners:
        assert listener.last()[0] == 3
    assert len(threads - {threading.get_ident()}) == len(threads) == 1


class Telling(Counting):
    """Says when its first call has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    def run(self, asks: Sequence[Count]) -> Answers[int]:
        self.begun.set()
        return super().run(asks)


def test_seconds_of_calls_for_others_are_told_as_waiting_and_not_as_work() -> None:
    stage = Telling()
    hold(stage)
    engine = Engine([stage], counted="count")
    first = submit(engine, "first", lambda: climb(1, key="x"))
    assert stage.begun.wait(20)
    second = submit(engine, "second", lambda: climb(1, key="y"))  # it is ready, and the device is taken
    time.sleep(0.3)
    stage.gate.release(1000)
    (_, worked), (_, waited) = first.last(), second.last()
    engine.close()
    assert worked["count"] >= 0.3
    assert "wait" not in worked  # it ended before the other one began
    assert waited["wait"] >= 0.3
    assert waited["count"] < waited["wait"]
