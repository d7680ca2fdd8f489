"""The engine: one thread that owns the device and batches what all live jobs ask for, call by call.

Each turn it takes the oldest open ask, gathers the asks that may share its call (same stage, same key) up to the
stage's row cap, runs the one call, and moves their routines on to their next ask. Oldest first bounds every wait: an
ask is passed only by calls that serve an older one. A job that arrives joins the next call; a cancelled one is dropped
between two calls.
"""

import inspect
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from pipelines.denoising.asks import Advance, Fork, Stage
from pipelines.denoising.jobs import Branching, EngineStats, Job, JobCancelled, Live, OpenAsk, Strand
from pipelines.errors import EngineDead, InputFault
from pipelines.events import Event, Progress

log = logging.getLogger("fooocus.engine")


class Engine:
    """Runs jobs until closed. `submit` and `cancel` may be called from any thread."""

    def __init__(self, stages: Mapping[type, Stage], counted: str, hang_after_s: float = 300.0) -> None:
        """stages: by type of ask. counted: the name of the stage whose calls are the UNet's. hang_after_s: a single
        call that takes longer than this means that the engine hangs."""
        self._stages = stages
        self._counted = counted
        self._hang_after_s = hang_after_s
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._live: dict[str, Live] = {}
        self._open: list[OpenAsk] = []
        self._calls = self._rows = self._largest = 0
        self._call_began: float | None = None
        self._dead: BaseException | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    # -- any thread

    def submit(self, job: Job) -> None:
        """Hand a job over; it joins the next call. Raises EngineDead when nobody would run it."""
        self._inbox.put(job)
        self.check()  # after the put: a thread that ends in between has either seen the job or is seen here

    def check(self) -> None:
        """Raise EngineDead unless the thread lives and its current call is younger than `hang_after_s`."""
        if self._dead is not None or not self._thread.is_alive():
            raise EngineDead(f"the engine has stopped: {self._dead or 'closed'}")
        began = self._call_began
        if began is not None and time.monotonic() - began > self._hang_after_s:
            raise EngineDead(f"a call has been running for more than {self._hang_after_s:.0f} s")

    def stats(self) -> EngineStats:
        return EngineStats(self._calls, self._rows, self._largest, len(self._live))

    def close(self) -> None:
        """Stop after the current call; jobs that are not over end with EngineDead."""
        self._closing = True
        self._inbox.put(None)
        self._thread.join()

    # -- the engine's thread

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while not self._closing:
                    self._admit()
                    self._drop_cancelled()
                    batch = self._next_batch()
                    if batch:
                        self._call(batch)
                    del batch  # while this thread waits, its last jobs and their weights are let go
        except BaseException as fault:  # whatever it is, waiting callers must learn of it
            log.exception("the engine stopped")
            self._dead = fault
        finally:
            self._abandon()

    def _admit(self) -> None:
        """Take every job that has arrived; wait for one when there is nothing else to do."""
        while True:
            try:
                job = self._inbox.get(block=not self._live and not self._closing)
            except queue.Empty:
                return
            if job is None:
                return
            live = Live(job)
            self._live[job.id] = live
            self._guarded(live, self._begin, live)
            del job, live  # as in `_run`

    def _begin(self, live: Live) -> None:
        self._tell(live, Progress(0, live.job.steps))
        self._start(Strand(live, live.job.make()))

    def _drop_cancelled(self) -> None:
        for live in [live for live in self._live.values() if live.job.cancelled.is_set()]:
            self._end(live, JobCancelled("the job was cancelled"))

    def _next_batch(self) -> list[OpenAsk]:
        """The oldest open ask and those that may share its call, oldest first, within the stage's row cap."""
        if not self._open:
            return []
        first = self._open[0]
        room = first.stage.cap(first.ask) - first.ask.rows
        batch = [first]
        for other in self._open[1:]:
            if other.stage is first.stage and other.ask.key == first.ask.key and other.ask.rows <= room:
                room -= other.ask.rows
                batch.append(other)
        taken = set(map(id, batch))
        self._open = [each for each in self._open if id(each) not in taken]
        return batch

    def _call(self, batch: Sequence[OpenAsk]) -> None:
        stage = batch[0].stage
        self._call_began = began = time.monotonic()
        try:
            answers = stage.run([each.ask for each in batch])
        except Exception as fault:
            if len(batch) == 1:
                self._end(batch[0].strand.live, fault)
            else:
                log.warning("a call of %s with %d asks failed, trying them alone: %s", stage.name, len(batch), fault)
                for each in batch:
                    if not each.strand.live.over:
                        self._call([each])
            return
        finally:
            self._call_began = None
        self._count(stage, batch, time.monotonic() - began)
        for each, answer in zip(batch, answers, strict=True):
            self._guarded(each.strand.live, self._move, each.strand, answer)

    def _count(self, stage: Stage, batch: Sequence[OpenAsk], seconds: float) -> None:
        for live in {id(each.strand.live): each.strand.live for each in batch}.values():
            live.timings[stage.name] += seconds
        if stage.name == self._counted:
            rows = sum(each.ask.rows for each in batch)
            self._calls += 1
            self._rows += rows
            self._largest = max(self._largest, rows)

    def _start(self, strand: Strand) -> None:
        strand.live.routines.append(strand.routine)
        self._move(strand, None)

    def _move(self, strand: Strand, answer: Any) -> None:
        """Send a routine its answer and file what it asks next, until it has to wait."""
        while not strand.live.over:
            try:
                asked = strand.routine.send(answer)
            except StopIteration as returned:
                self._returned(strand, returned.value)
                return
            if isinstance(asked, Advance):
                self._advance(strand, asked.done)
                answer = None
                continue
            if isinstance(asked, Fork):
                self._fork(strand, asked)
                return
            self._open.append(OpenAsk(strand, asked, self._stages[type(asked)]))
            return

    def _fork(self, strand: Strand, fork: Fork) -> None:
        branching = Branching(strand, [None] * len(fork.routines), len(fork.routines), [])
        branching.branches = [
            Strand(strand.live, routine, branching, place) for place, routine in enumerate(fork.routines)
        ]
        for branch in branching.branches:
            self._start(branch)

    def _returned(self, strand: Strand, result: Any) -> None:
        branching = strand.parent
        if branching is None:
            self._end(strand.live, strand.live.job.finish(result, dict(strand.live.timings)))
            return
        branching.results[strand.place] = result
        branching.missing -= 1
        if branching.missing == 0:
            self._move(branching.strand, branching.results)

    def _advance(self, strand: Strand, done: int) -> None:
        strand.done = done
        together = sum(each.done for each in strand.parent.branches) if strand.parent else done
        self._tell(strand.live, Progress(together, strand.live.job.steps))

    def _guarded(self, live: Live, act: Callable[..., None], *args: Any) -> None:
        """A fault in one job's own code ends that job alone."""
        try:
            act(*args)
        except Exception as fault:
            if not isinstance(fault, InputFault):
                log.exception("job %s failed", live.job.id)
            self._end(live, fault)

    def _end(self, live: Live, last: Event | BaseException) -> None:
        if live.over:
            return
        live.over = True
        self._live.pop(live.job.id, None)
        self._open = [each for each in self._open if each.strand.live is not live]
        for routine in live.routines:
            if inspect.getgeneratorstate(routine) != inspect.GEN_RUNNING:
                routine.close()
        self._tell(live, last)

    def _tell(self, live: Live, event: Event | BaseException) -> None:
        try:
            live.job.on_event(event)
        except Exception:
            log.exception("the listener of job %s failed", live.job.id)

    def _abandon(self) -> None:
        """The thread ends: whoever still waits learns it."""
        reason = EngineDead(f"the engine has stopped: {self._dead or 'closed'}")
        for live in list(self._live.values()):
            self._end(live, reason)
        while True:
            try:
                job = self._inbox.get(block=False)
            except queue.Empty:
                return
            if job is not None:
                self._tell(Live(job), reason)
