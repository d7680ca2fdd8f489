"""Whatever jobs come, leave and fail: none is lost, none starves, caps hold, and a job's steps keep their order."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.denoising.asks import Advance, Fork, Routine
from pipelines.denoising.engine import Engine
from pipelines.denoising.jobs import Job, JobCancelled, Live, OpenAsk, Strand
from pipelines.denoising.scheduler import PATIENCE, FairScheduler
from pipelines.errors import DrawingFault, InputFault
from tests.pipelines.denoising.fakes import Listener

CAP, MEMORY = 5, 4


@dataclass(frozen=True)
class Plan:
    """A job. breaks: at which step, and how; None for a job that is drawn."""

    steps: int
    images: int
    rows: int
    key: str
    arrives: int
    leaves: int | None
    breaks: tuple[int, str] | None


plans = st.lists(
    st.builds(
        Plan,
        steps=st.integers(1, 12),
        images=st.integers(1, 3),
        rows=st.integers(1, 2),
        key=st.sampled_from("xyz"),
        arrives=st.integers(0, 30),
        leaves=st.none() | st.integers(0, 60),
        breaks=st.none() | st.tuples(st.integers(0, 11), st.sampled_from(["raise", "nan", "own"])),
    ),
    min_size=1,
    max_size=12,
)


@dataclass(frozen=True, eq=False)
class Step:
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
class Model:
    """A fake network: raises, spoils rows, and runs out of memory above MEMORY rows."""

    name: str = "model"
    steps: list[Step] = field(default_factory=list)
    largest: int = 0

    def cap(self, ask: Any) -> int:
        return CAP

    def run(self, asks: Sequence[Step]) -> list[torch.Tensor]:
        rows = sum(ask.rows for ask in asks)
        if len(asks) > 1:
            assert rows <= CAP
        assert len({ask.key for ask in asks}) == 1
        if rows > MEMORY:
            raise torch.OutOfMemoryError("full")
        if any(ask.how == "raise" for ask in asks):
            raise ValueError("broken")
        self.largest = max(self.largest, rows)
        answers = [torch.full((1,), float("nan") if ask.how == "nan" else 1.0) for ask in asks]
        self.steps += [ask for ask in asks if ask.how != "nan"]
        return answers


def image(job: int, number: int, plan: Plan) -> Routine:
    for step in range(plan.steps):
        how = plan.breaks[1] if plan.breaks and plan.breaks[0] == step and number == 0 else ""
        if how == "own":
            raise InputFault("type", "the job's own code fails")
        yield Step(job, number, step, plan, how)
        yield Advance(step + 1)
    return number


def routine(job: int, plan: Plan) -> Routine:
    results = yield Fork([image(job, number, plan) for number in range(plan.images)])
    return results


@settings(max_examples=60, deadline=None)
@given(plans)
def test_every_job_ends_once_as_it_must(jobs: list[Plan]) -> None:
    model = Model()
    engine = Engine({Step: model}, counted="model")
    submitted: list[tuple[Plan, Job, Listener]] = []
    for number, plan in enumerate(jobs):
        listener = Listener()
        job = Job(str(number), lambda n=number, p=plan: routine(n, p), lambda result, _: result, plan.steps, listener)  # type: ignore[misc]
        if plan.leaves is not None and plan.leaves <= plan.arrives:
            job.cancelled.set()
        engine.submit(job)
        submitted.append((plan, job, listener))
        for other, earlier, _ in submitted:
            if other.leaves is not None and other.leaves <= plan.arrives:
                earlier.cancelled.set()
    for number, (plan, job, listener) in enumerate(submitted):
        last = listener.last()
        assert listener.events.empty()
        reached = plan.breaks is not None and plan.breaks[0] < plan.steps
        if not isinstance(last, JobCancelled):
            kinds = {"raise": ValueError, "nan": DrawingFault, "own": InputFault}
            wanted = kinds[plan.breaks[1]] if plan.breaks and reached else list
            assert isinstance(last, wanted)
        else:
            assert job.cancelled.is_set()
        told = [progress.step for progress in listener.steps]
        assert told == sorted(told)
        for at in range(plan.images):
            taken = [step.step for step in model.steps if (step.job, step.image) == (number, at)]
            assert taken == list(range(len(taken)))
            assert len(taken) == plan.steps or not isinstance(last, list)
    engine.check()
    assert engine.stats().live_jobs == 0
    assert engine.stats().largest_call == model.largest <= MEMORY
    engine.close()
    assert engine._dead is None  # the check of the idle engine found nothing


@settings(max_examples=100, deadline=None)
@given(plans)
def test_no_ask_waits_longer_than_its_bound(jobs: list[Plan]) -> None:
    scheduler = FairScheduler(lambda _: CAP)
    lives = [
        Live(Job(str(at), lambda: iter(()), lambda *_: None, plan.steps * plan.images, lambda _: None), at)
        for at, plan in enumerate(jobs)
    ]  # type: ignore[arg-type,return-value]
    bounds: dict[int, int] = {}  # the last turn by which an ask must have been handed out
    taken: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    model = Model()

    def file(job: int, number: int, step: int, turn: int) -> None:
        opened = OpenAsk(Strand(lives[job], iter(())), Step(job, number, step, jobs[job]), model)  # type: ignore[arg-type]
        bounds[id(opened)] = turn + PATIENCE + len(scheduler) + 1
        kept.append(opened)
        scheduler.file(opened)

    kept: list[OpenAsk] = []
    turn = 0
    while turn <= 60 or len(scheduler):
        for at, plan in enumerate(jobs):
            if plan.arrives == turn:
                for number in range(plan.images):
                    file(at, number, 0, turn)
            if plan.leaves == turn:
                lives[at].over = True
                scheduler.drop(lives[at])
        call = scheduler.next()
        turn += 1
        assert len(call) <= 1 or sum(opened.ask.rows for opened in call) <= CAP
        for opened in call:
            assert turn <= bounds[id(opened)]
            step: Any = opened.ask
            taken[step.job, step.image].append(step.step)
            lives[step.job].done += 1
            if step.step + 1 < step.plan.steps and not lives[step.job].over:
                file(step.job, step.image, step.step + 1, turn)
    for at, plan in enumerate(jobs):
        for number in range(plan.images):
            found = taken[at, number]
            assert found == list(range(len(found)))
            assert lives[at].over or len(found) == plan.steps
