"""The engine: one thread that owns the device and batches what all live jobs ask for, call by call.

Each turn it lets jobs in and out, has the scheduler choose the tasks of the next call, runs it, and moves their
routines on to their next ask. Answers are held to be finite: at once, or `ahead` a turn later, while the next call
runs; a job whose answer is not is begun again alone, for its neighbours may have spoilt it. Other threads watch that a
call ends and tell the listeners.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor as Workers
from functools import partial

import torch

from pipelines.device import Device, Download, PlainDevice
from pipelines.engine.executor import Executor
from pipelines.engine.scheduler import Scheduler
from pipelines.engine.tasks import WAIT, Advance, Answer, AnyStage, Fork, Job, Routine, Task
from pipelines.errors import DrawingFault, EngineDead, InputFault, JobCancelled
from pipelines.events import EngineStats, Step
from pipelines.listeners import Listeners
from pipelines.memory.row_limits import explain
from pipelines.row_steps import LATENT_UNIT
from pipelines.watchdog import Watchdog

log = logging.getLogger("fooocus.engine")

Check = tuple[Sequence[Task], Download]  # of the answers that tasks were sent: the largest magnitudes in them


class Engine:
    """Runs jobs until closed. Its public methods may be called from any thread."""

    def __init__(
        self,
        stages: Iterable[AnyStage],
        counted: str,
        device: Device | None = None,
        hang_after_s: float = 300.0,
        *,
        ahead: bool = False,
        one_at_a_time: bool = False,
    ) -> None:
        """counted: the name of the stage whose calls are the UNet's. device: None is the CPU. hang_after_s: a single
        call that takes longer means that the engine hangs. ahead: only for jobs that end with an answer that needs no
        check, as a decoding is. one_at_a_time: batch nothing, for debugging."""
        self._counted, self._hang_after_s, self._ahead = counted, hang_after_s, ahead
        self._device = device or PlainDevice(torch.device("cpu"))
        self._jobs: dict[str, Job] = {}  # from `submit` to their last event
        self._lock = threading.Lock()  # of the above
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._arrived = self._asked = self._settled = self._begun_again = 0
        self._unread: list[Check] = []
        self._dead: BaseException | None = None
        self._closed = threading.Event()
        self._listeners = Listeners()
        hung = EngineDead(f"a call has been running for more than {hang_after_s:g} s")
        self._watchdog = Watchdog(hang_after_s, lambda: self._give_up(hung))
        self._executor = Executor(stages, self._watchdog.begin)
        self._seconds: dict[str, float] = {stage.name: 0.0 for stage in self._executor.stages.values()}  # of all calls
        self._scheduler = Scheduler(self._executor, one_at_a_time=one_at_a_time)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, job: Job, workers: Workers) -> None:
        """Have a job prepared by `workers` and run; it joins the next call. Raises EngineDead when nobody would."""
        with self._lock:
            self._jobs[job.id] = job
        self._listeners.begin(job.id)
        self.check()  # after the above: an engine that ends in between has either seen the job or is seen here
        workers.submit(self._prepare, job)

    def cancel(self, job_id: str) -> None:
        """Take a job out before the next call; its listener gets JobCancelled. Unknown ids are no error."""
        if (job := self._jobs.get(job_id)) is not None:
            job.cancelled = True

    def check(self) -> None:
        """Raise EngineDead unless the thread lives and its current call is younger than `hang_after_s`."""
        if self._dead is not None or not self._thread.is_alive():
            raise EngineDead(f"the engine has stopped: {self._dead or 'closed'}")

    def stats(self) -> EngineStats:
        by, name = self._executor, self._counted
        retried, lowered = by.retried + self._begun_again, len(by.limits)
        tokens, padding = map(sum, zip(*(stage.tokens for stage in by.stages.values()), strict=True))
        return EngineStats(
            unet_calls=by.calls[name],
            unet_rows=by.rows[name],
            largest_call=by.largest[name],
            live_jobs=len(self._jobs),
            retried=retried,
            lowered=lowered,
            unet_row_steps=by.costs[name] / LATENT_UNIT,
            busy_s=sum(self._seconds.values()),
            unet_seconds=self._seconds[name],
            prompt_tokens=tokens,
            padding_tokens=padding,
        )

    def close(self) -> None:
        """Stop after the current call; jobs that are not over end with EngineDead. A call that hangs is left behind."""
        self._closed.set()
        self._inbox.put(None)
        self._thread.join(self._hang_after_s if self._dead is None else 1.0)
        self._give_up(EngineDead("it was closed while a call hung" if self._thread.is_alive() else "closed"))
        self._watchdog.close()
        self._listeners.close()

    def _give_up(self, fault: BaseException) -> None:
        """Nobody runs jobs any more: whoever waits learns it."""
        self._dead = self._dead or fault
        for job in list(self._jobs.values()):
            self._end(job, EngineDead(f"the engine has stopped: {self._dead}"))

    def _end(self, job: Job, fault: Exception | None = None) -> None:
        """A job's last event, once: its own unless there is a fault."""
        with self._lock:
            if job.over:
                return
            job.over = True
            self._jobs.pop(job.id, None)
        if threading.current_thread() is self._thread:
            self._drop_tasks(job)
        if fault is not None and not isinstance(fault, (InputFault, JobCancelled, EngineDead)):
            log.error("job %s failed", job.id, exc_info=fault)
            fault = explain(fault)
        last, timings = job.last, dict(job.timings)
        told = fault or EngineDead("the job has no last event")
        make = partial(last, timings) if last and not fault else lambda: told
        self._listeners.tell_last(job.id, job.on_event, make)
        if isinstance(fault, EngineDead) and self._dead is None:
            self._give_up(fault)

    def _prepare(self, job: Job) -> None:
        try:
            if job.cancelled or job.over:
                raise JobCancelled("the job was cancelled")
            job.start = job.prepare()
        except Exception as fault:
            self._end(job, fault)
            return
        job.ready_at = time.monotonic()
        self._inbox.put(job)
        if self._dead is not None:  # after the put: else the engine's thread sees the job
            self._give_up(self._dead)

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while not self._closed.is_set() and self._dead is None:
                    self._admit()
                    self._drop_cancelled()
                    tasks = self._scheduler.next()
                    self._call(tasks)
                    del tasks  # while this thread waits, its last jobs and their weights are let go
        except BaseException as fault:  # whatever it is, waiting callers must learn of it
            log.exception("the engine stopped")
            self._dead = fault
        finally:
            self._closed.set()
            self._give_up(EngineDead("closed"))

    def _admit(self) -> None:
        """Take every job that has arrived; wait for one when there is nothing else to do."""
        while True:
            idle = not self._scheduler and not self._unread
            if idle:
                self._verify_idle()
            try:
                job = self._inbox.get(block=idle and not self._closed.is_set())
            except queue.Empty:
                return
            if job is None:
                return
            job.number = self._arrived = self._arrived + 1
            self._begin(job)
            del job  # as in `_run`

    def _drop_cancelled(self) -> None:
        for job in [job for job in list(self._jobs.values()) if job.cancelled and job.number]:
            self._end(job, JobCancelled("the job was cancelled"))

    def _verify_idle(self) -> None:
        """With nothing to do, nobody may wait: a job that was lost would be found here and not by its caller."""
        waiting = sum(job.number > 0 for job in list(self._jobs.values()))
        if waiting or self._asked != self._settled:
            raise RuntimeError(f"{waiting} jobs wait for nothing; {self._asked} asks made, {self._settled} settled")

    def _begin(self, job: Job) -> None:
        self._tell_progress(job)
        try:
            self._move(Task(job, _whole(job)), None)
        except Exception as fault:
            self._end(job, fault)

    def _call(self, tasks: Sequence[Task]) -> None:
        """One turn's call; without tasks just what is left to be read of the turn before."""
        self._watchdog.begin()
        began, earlier = time.monotonic(), self._unread
        outcome = self._executor.run(tasks)
        self._settled += len(tasks)
        self._unread = [(checked, self._device.download(largest)) for checked, largest in outcome.checks]
        if not self._ahead:
            earlier, self._unread = self._unread, []
        self._read_checks(earlier)
        self._watchdog.end()
        self._count_seconds(tasks, began)
        for task, answer in outcome.answers:
            if isinstance(answer, Exception) and not task.over:
                self._end(task.job, answer)
            else:
                self._move(task, answer)

    def _count_seconds(self, tasks: Sequence[Task], began: float) -> None:
        """Of a call that is over: for whose it was in their stage, for the others that were ready as waiting."""
        if not tasks:
            return
        now, served = time.monotonic(), {id(task.job): task.job for task in tasks}
        stage = self._executor.stage(tasks[0].asked).name
        self._seconds[stage] += now - began
        for job in served.values():
            job.timings[stage] += now - began
        for job in list(self._jobs.values()):
            if id(job) not in served and (waited := now - max(began, job.ready_at)) > 0:
                job.timings[WAIT] += waited

    def _read_checks(self, checks: Sequence[Check]) -> None:
        for tasks, download in checks:
            for task, largest in zip(tasks, download().tolist(), strict=True):
                if math.isfinite(largest) or task.over:
                    continue
                job = task.job
                if job.alone:
                    self._end(job, DrawingFault("the picture came to values that are not finite"))
                    continue
                log.warning("job %s got values that are not finite: it is begun again, alone", job.id)
                self._begun_again += 1
                self._drop_tasks(job)
                job.alone, job.done = True, 0
                self._begin(job)

    def _move(self, task: Task, answer: Answer) -> None:
        """Send a task its answer and on to its next ask; then those that it begins or that waited for its result."""
        moves = [(task, answer)]
        while moves:
            task, answer = moves.pop()
            if task.over:
                continue
            try:
                asked = task.routine.send(answer)
            except StopIteration as returned:
                moves += self._return(task, returned.value)
                continue
            except Exception as fault:
                self._end(task.job, fault)
                continue
            if isinstance(asked, Advance):
                task.job.done += asked.done - task.done
                task.done = asked.done
                self._tell_progress(task.job)
                moves.append((task, None))
            elif isinstance(asked, Fork):
                task.results, task.missing = [None] * len(asked.routines), len(asked.routines)
                branches = [Task(task.job, routine, task, place) for place, routine in enumerate(asked.routines)]
                moves += [(branch, None) for branch in reversed(branches)] or [(task, task.results)]
            elif type(asked) not in self._executor.stages:
                self._end(task.job, LookupError(f"nobody serves {type(asked).__name__}"))
            else:
                task.asked = asked
                self._scheduler.file(task)
                self._asked += 1

    def _return(self, task: Task, result: Answer) -> list[tuple[Task, Answer]]:
        """Who is sent on by a result: the task that forked, when it was the last of its branches."""
        parent = task.parent
        if parent is None:
            self._end(task.job)
            return []
        parent.results[task.place] = result
        parent.missing -= 1
        return [] if parent.missing else [(parent, parent.results)]

    def _tell_progress(self, job: Job) -> None:
        self._listeners.tell_progress(job.id, job.on_event, Step(job.done, job.steps))

    def _drop_tasks(self, job: Job) -> None:
        for task in job.tasks:
            task.over = True
            task.routine.close()
        job.tasks.clear()
        self._settled += self._scheduler.drop(job)


def _whole(job: Job) -> Routine[None]:
    if job.start is not None:
        job.last = yield from job.start()
