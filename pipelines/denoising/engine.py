"""The engine: one thread that owns the device and batches what all live jobs ask for, call by call.

Each turn it lets jobs in and out, has the scheduler choose the asks of the next call, runs it, and moves their routines
on to their next ask. A job that arrives joins the next call that suits it; a cancelled one is dropped between two
calls. A second thread watches how long a call takes: a live thread is not health.
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
from pipelines.denoising.calls import Caller
from pipelines.denoising.jobs import Branching, EngineStats, Job, JobCancelled, Live, OpenAsk, Strand
from pipelines.denoising.scheduler import FairScheduler, OneByOneScheduler, Scheduler
from pipelines.errors import EngineDead, InputFault
from pipelines.events import Event, Progress

log = logging.getLogger("fooocus.engine")


class Engine:
    """Runs jobs until closed. Its public methods may be called from any thread."""

    def __init__(
        self, stages: Mapping[type, Stage], counted: str, hang_after_s: float = 300.0, *, one_at_a_time: bool = False
    ) -> None:
        """stages: by type of ask. counted: the name of the stage whose calls are the UNet's. hang_after_s: a single
        call that takes longer than this means that the engine hangs. one_at_a_time: batch nothing, for debugging."""
        self._stages = stages
        self._counted = counted
        self._hang_after_s = hang_after_s
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._live: dict[str, Live] = {}
        self._arrived = 0
        self._asked = self._settled = 0
        self._caller = Caller(self._call_begins)
        self._scheduler: Scheduler = OneByOneScheduler() if one_at_a_time else FairScheduler(self._cap)
        self._call_began: float | None = None
        self._dead: BaseException | None = None
        self._ending = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()
        threading.Thread(target=self._watch, name="engine-watchdog", daemon=True).start()

    # -- any thread

    def submit(self, job: Job) -> None:
        """Hand a job over; it joins the next call. Raises EngineDead when nobody would run it."""
        self._inbox.put(job)
        self.check()  # after the put: a thread that ends in between has either seen the job or is seen here

    def check(self) -> None:
        """Raise EngineDead unless the thread lives and its current call is younger than `hang_after_s`."""
        if self._dead is not None or not self._thread.is_alive():
            raise EngineDead(f"the engine has stopped: {self._dead or 'closed'}")

    def stats(self) -> EngineStats:
        tally = self._caller.tallies[self._counted]
        return EngineStats(
            tally.calls, tally.rows, tally.largest, len(self._live), self._caller.retried, self._caller.lowered
        )

    def close(self) -> None:
        """Stop after the current call; jobs that are not over end with EngineDead. A call that hangs is left behind."""
        self._closed.set()
        self._inbox.put(None)
        self._thread.join(self._hang_after_s if self._dead is None else 1.0)
        if self._thread.is_alive():
            self._give_up(EngineDead("it was closed while a call hung"))

    # -- the watchdog's thread

    def _watch(self) -> None:
        """When a call hangs, let everybody know who waits for it: its thread cannot."""
        while not self._closed.wait(min(1.0, self._hang_after_s / 4)):
            began = self._call_began
            if began is not None and time.monotonic() - began > self._hang_after_s:
                self._give_up(EngineDead(f"a call has been running for more than {self._hang_after_s:g} s"))
                return

    # -- any thread but the engine's

    def _give_up(self, fault: EngineDead) -> None:
        """Let everybody know that the engine's thread does not come back."""
        self._dead = fault
        log.error("the engine hangs: %s", fault)
        for live in list(self._live.values()):
            self._let_go(live, EngineDead(f"the engine has stopped: {fault}"))
        self._refuse_arrived()

    # -- the engine's thread

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while not self._closed.is_set() and self._dead is None:
                    self._admit()
                    self._drop_cancelled()
                    batch = self._scheduler.next()
                    if batch:
                        self._call(batch)
                    del batch  # while this thread waits, its last jobs and their weights are let go
        except BaseException as fault:  # whatever it is, waiting callers must learn of it
            log.exception("the engine stopped")
            self._dead = fault
        finally:
            self._closed.set()
            self._abandon()

    def _admit(self) -> None:
        """Take every job that has arrived; wait for one when there is nothing else to do."""
        while True:
            if not self._live:
                self._verify_idle()
            try:
                job = self._inbox.get(block=not self._live and not self._closed.is_set())
            except queue.Empty:
                return
            if job is None:
                return
            self._arrived += 1
            live = Live(job, self._arrived)
            self._live[job.id] = live
            self._guarded(live, self._begin, live)
            del job, live  # as in `_run`

    def _verify_idle(self) -> None:
        """With no job left, nothing may be left of any: a leak would be found here and not weeks later."""
        if len(self._scheduler) or self._asked != self._settled:
            raise RuntimeError(
                f"no job is live, but {len(self._scheduler)} asks are open, {self._asked} were made and "
                f"{self._settled} are settled"
            )

    def _begin(self, live: Live) -> None:
        self._tell(live, Progress(0, live.job.steps))
        self._start(Strand(live, live.job.make()))

    def _drop_cancelled(self) -> None:
        for live in [live for live in self._live.values() if live.job.cancelled.is_set()]:
            self._end(live, JobCancelled("the job was cancelled"))

    def _call(self, batch: Sequence[OpenAsk]) -> None:
        stage = batch[0].stage
        began = time.monotonic()
        answers = self._caller.run(stage, [each.ask for each in batch])
        self._call_began = None
        self._settled += len(batch)
        for live in {id(each.strand.live): each.strand.live for each in batch}.values():
            live.timings[stage.name] += time.monotonic() - began
        for each, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                self._end(each.strand.live, answer)
            else:
                self._guarded(each.strand.live, self._move, each.strand, answer)

    def _call_begins(self) -> None:
        self._call_began = time.monotonic()

    def _cap(self, opened: OpenAsk) -> int:
        return self._caller.cap(opened.stage, opened.ask)

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
            self._scheduler.file(OpenAsk(strand, asked, self._stages[type(asked)]))
            self._asked += 1
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
        live = strand.live
        live.done += done - strand.done
        strand.done = done
        self._tell(live, Progress(live.done, live.job.steps))

    def _guarded(self, live: Live, act: Callable[..., None], *args: Any) -> None:
        """A fault in one job's own code ends that job alone."""
        try:
            act(*args)
        except Exception as fault:
            if not isinstance(fault, InputFault):
                log.exception("job %s failed", live.job.id)
            self._end(live, fault)

    def _end(self, live: Live, last: Event | BaseException) -> None:
        self._settled += self._scheduler.drop(live)
        for routine in live.routines:
            if inspect.getgeneratorstate(routine) != inspect.GEN_RUNNING:
                routine.close()
        self._let_go(live, last)

    def _let_go(self, live: Live, last: Event | BaseException) -> None:
        """Tell a job's last event, once: the watchdog's thread may be doing the same."""
        with self._ending:
            if live.over:
                return
            live.over = True
        self._live.pop(live.job.id, None)
        self._tell(live, last)

    def _tell(self, live: Live, event: Event | BaseException) -> None:
        try:
            live.job.on_event(event)
        except Exception:
            log.exception("the listener of job %s failed", live.job.id)

    def _abandon(self) -> None:
        """Nobody runs jobs any more: whoever still waits learns it."""
        for live in list(self._live.values()):
            self._end(live, EngineDead(f"the engine has stopped: {self._dead or 'closed'}"))
        self._refuse_arrived()

    def _refuse_arrived(self) -> None:
        while True:
            try:
                job = self._inbox.get(block=False)
            except queue.Empty:
                return
            if job is not None:
                self._tell(Live(job, 0), EngineDead(f"the engine has stopped: {self._dead or 'closed'}"))
