"""Whatever jobs come, leave and fail: none is lost, none starves, caps hold, and a job's steps keep their order."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.engine.engine import Engine
from pipelines.engine.executor import Executor
from pipelines.engine.scheduler import Scheduler
from pipelines.engine.tasks import Advance, Answers, Ask, Fork, Job, Routine, Stage, Task, ask
from pipelines.errors import DrawingFault, InputFault, JobCancelled
from tests.pipelines.engine.fakes import AtOnce, Listener, job, submit, waiting

CAP, MEMORY = 5, 4
PATIENCE = 8  # turns; not imported, for it is what the scheduler promises


@dataclass(frozen=True)
class Plan:
    """A job. breaks: at which step, and how; None for a job that is drawn at once."""

    steps: int = 1
    images: int = 1
    rows: int = 1
    key: str = "x"
    arrives: int = 0
    leaves: int | None = None
    breaks: tuple[int, str] | None = None

    @property
    def broken(self) -> str:
        """How it goes wrong, if it comes to that."""
        return self.breaks[1] if self.breaks is not None and self.breaks[0] < self.steps else ""


plans = st.lists(
    st.builds(
        Plan,
        steps=st.integers(1, 12),
        images=st.integers(1, 3),
        rows=st.integers(1, 2),
        key=st.sampled_from("xyz"),
        arrives=st.integers(0, 30),
        leaves=st.none() | st.integers(0, 60),
        breaks=st.none() | st.tuples(st.integers(0, 11), st.sampled_from(["raise", "nan", "spoilt", "own"])),
    ),
    min_size=1,
    max_size=12,
)


@dataclass(frozen=True, eq=False)
class Step(Ask[int]):
    """One step of one image of a job. how: what goes wrong with it, if anything."""

    job: int
    image: int
    step: int
    plan: Plan
    how: str = ""

    @property
    def key(self) -> str:
        return self.plan.key

    @property
    def rows(self) -> int:
        return self.plan.rows

    @property
    def cost(self) -> float:
        return 1.0 * self.rows


@dataclass(eq=False)
class Model(Stage[Step, int]):
    """A fake network: raises, spoils rows, for good or by their neighbours, and is full above MEMORY rows."""

    steps: list[Step] = field(default_factory=list)
    spoilt: set[int] = field(default_factory=set)
    largest: int = 0

    name = "model"
    asked = Step

    def cap(self, ask: Step) -> int:
        return CAP

    def run(self, asks: Sequence[Step]) -> Answers[int]:
        rows = sum(ask.rows for ask in asks)
        if len(asks) > 1:
            assert rows <= CAP
        assert len({ask.key for ask in asks}) == 1
        if rows > MEMORY:
            raise torch.OutOfMemoryError("full")
        if any(ask.how == "raise" for ask in asks):
            raise ValueError("broken")
        self.largest = max(self.largest, rows)
        crowded = len({ask.job for ask in asks}) > 1
        bad = [ask.how == "nan" or (ask.how == "spoilt" and crowded) for ask in asks]
        self.steps += [ask for ask, spoilt in zip(asks, bad, strict=True) if not spoilt]
        self.spoilt |= {ask.job for ask, spoilt in zip(asks, bad, strict=True) if spoilt}
        return Answers([1] * len(asks), torch.tensor([float("nan") if each else 1.0 for each in bad]))


def image(number: int, place: int, plan: Plan) -> Routine[int]:
    for step in range(plan.steps):
        how = plan.broken if plan.breaks and plan.breaks[0] == step and place == 0 else ""
        if how == "own":
            raise InputFault("type", "the job's own code fails")
        yield from ask(Step(number, place, step, plan, how))
        yield from ask(Advance(step + 1))
    return place


def routine(number: int, plan: Plan) -> Routine[list[int]]:
    return (yield from ask(Fork([image(number, place, plan) for place in range(plan.images)])))


def runs(steps: Sequence[int]) -> list[list[int]]:
    """The steps that an image was taken through, each time that it was begun."""
    begun: list[list[int]] = []
    for step in steps:
        if step == 0:
            begun.append([])
        begun[-1].append(step)
    return begun


@settings(max_examples=60, deadline=None)
@given(plans)
def test_every_job_ends_once_as_it_must(jobs: list[Plan]) -> None:
    model = Model()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.listeners.PROGRESS_S", 0.0)
        engine = Engine([model], counted="model")
        submitted: list[tuple[Plan, Job, Listener]] = []
        for number, plan in enumerate(jobs):
            made, listener = job(str(number), lambda n=number, p=plan: routine(n, p), plan.steps * plan.images)  # type: ignore[misc]
            engine.submit(made, AtOnce())
            submitted.append((plan, made, listener))
            for other, earlier, _ in submitted:
                if other.leaves is not None and other.leaves <= plan.arrives:
                    engine.cancel(earlier.id)
        for number, (plan, made, listener) in enumerate(submitted):
            last = listener.last()
            assert listener.events.empty()
            if isinstance(last, JobCancelled):
                assert made.cancelled
            else:
                kinds = {"raise": ValueError, "nan": DrawingFault, "own": InputFault, "spoilt": tuple, "": tuple}
                assert isinstance(last, kinds[plan.broken])
            told = [progress.step for progress in listener.steps]
            assert told == sorted(told)
            for place in range(plan.images):
                taken = runs([step.step for step in model.steps if (step.job, step.image) == (number, place)])
                assert all(steps == list(range(len(steps))) for steps in taken)
                assert len(taken) <= (2 if number in model.spoilt else 1)
                if isinstance(last, tuple):
                    assert last[0][place] == place
                    assert len(taken[-1]) == plan.steps
        assert submit(engine, "after", lambda: routine(-1, Plan())).last()[0] == [0]  # the idle engine found no leak
        engine.check()
        assert engine.stats().live_jobs == 0
        assert engine.stats().largest_call == model.largest <= MEMORY
        engine.close()


@settings(max_examples=100, deadline=None)
@given(plans)
def test_no_ask_waits_longer_than_its_bound(jobs: list[Plan]) -> None:
    scheduler = Scheduler(Executor([Model()], lambda: None))
    lives = [job(str(at), lambda: routine(0, Plan()), plan.steps * plan.images)[0] for at, plan in enumerate(jobs)]
    gone: set[int] = set()
    bounds: dict[Task, int] = {}  # the last turn by which an ask must have been handed out
    taken: defaultdict[tuple[int, int], list[int]] = defaultdict(list)

    def file(number: int, place: int, step: int, turn: int) -> None:
        task = waiting(lives[number], Step(number, place, step, jobs[number]))
        bounds[task] = turn + PATIENCE + len(scheduler) + 1
        scheduler.file(task)

    turn = 0
    while turn <= 60 or len(scheduler):
        for at, plan in enumerate(jobs):
            if plan.arrives == turn:
                for place in range(plan.images):
                    file(at, place, 0, turn)
            if plan.leaves == turn:
                gone.add(at)
                scheduler.drop(lives[at])
        call = scheduler.next()
        turn += 1
        assert len(call) <= 1 or sum(task.asked.rows for task in call) <= CAP
        for task in call:
            assert turn <= bounds[task]
            step = task.asked
            assert isinstance(step, Step)
            taken[step.job, step.image].append(step.step)
            lives[step.job].done += 1
            if step.step + 1 < step.plan.steps and step.job not in gone:
                file(step.job, step.image, step.step + 1, turn)
    for at, plan in enumerate(jobs):
        for place in range(plan.images):
            found = taken[at, place]
            assert found == list(range(len(found)))
            assert at in gone or len(found) == plan.steps
