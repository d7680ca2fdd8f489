"""The scheduler: which waiting tasks are served next, and together. It looks at neither clock nor tensors."""

from collections.abc import Hashable

from pipelines.engine.executor import Executor
from pipelines.engine.tasks import Job, Task

PATIENCE = 8


class Scheduler:
    """Short jobs first, and nobody waits for ever. Called on the engine's thread only.

    First come tasks that have waited for PATIENCE turns, the oldest first; then what a job asks for once (its prompt,
    its hint, its decoding), which lets it join the others or leave them; then evaluations, those of the job with the
    least work left first: steps left x rows x pixels. The first of this order leads the call, and the others that may
    share it fill it up to its room in the same order. So a task is handed out after PATIENCE + n turns at the latest,
    where n is the number of tasks that waited when it was filed: once it has waited for PATIENCE turns, every turn
    hands out an older one or it.

    one_at_a_time: no batching, for debugging: the job that came first runs to its end, one ask a call.
    """

    def __init__(self, executor: Executor, *, one_at_a_time: bool = False) -> None:
        self._executor, self._one_at_a_time = executor, one_at_a_time
        self._waiting: list[Task] = []  # the oldest first
        self._turn = 0

    def file(self, task: Task) -> None:
        """A task waits for what it asked."""
        task.filed_in = self._turn
        self._waiting.append(task)

    def drop(self, job: Job) -> int:
        """Forget the tasks of a job. How many waited."""
        dropped = [task for task in self._waiting if task.job is job]
        self._waiting = [task for task in self._waiting if task.job is not job]
        return len(dropped)

    def next(self) -> list[Task]:
        """Take the tasks of the next call, all of one group; none when none waits."""
        if not self._waiting:
            return []
        self._turn += 1
        leading, *others = sorted(self._waiting, key=self._urgency)  # which keeps the order of equals
        taken, group, stage = [leading], _group(leading), self._executor.stage(leading.asked)
        room = self._executor.room(leading.asked) - leading.asked.rows
        for task in [] if self._one_at_a_time else others:
            fits = task.asked.rows <= room and _group(task) == group
            if fits and stage.suits([each.asked for each in taken], task.asked):
                room -= task.asked.rows
                taken.append(task)
        chosen = set(taken)
        self._waiting = [task for task in self._waiting if task not in chosen]
        return taken

    def __len__(self) -> int:
        return len(self._waiting)

    def _urgency(self, task: Task) -> tuple[bool, float]:
        """Small comes first."""
        if self._one_at_a_time:
            return False, task.job.number
        if self._turn - task.filed_in > PATIENCE:
            return False, 0.0
        return True, task.asked.cost * (task.job.steps - task.job.done)


def _group(task: Task) -> Hashable:
    return type(task.asked), task.asked.key, task.job.number if task.job.alone else 0
