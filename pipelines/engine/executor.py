"""The executor: makes the calls, and finds out whose fault it is when that does not work.

A call that raises is tried ask by ask, so that the one which poisons it fails alone; one that does not fit into memory
is tried in halves. A device that is lost ends the engine.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipelines.engine.tasks import Answer, Answers, AnyStage, Ask, Task
from pipelines.errors import EngineDead
from pipelines.memory.row_limits import RowLimits, Size, explain, out_of_memory

log = logging.getLogger("fooocus.engine")


@dataclass(eq=False)
class Outcome:
    """What became of tasks: the answer of each, or the exception in its place. checks: of some of them together, the
    largest magnitudes in their answers, on the device."""

    answers: list[tuple[Task, Answer | Exception]] = field(default_factory=list)
    checks: list[tuple[Sequence[Task], Tensor]] = field(default_factory=list)


class Executor:
    """Makes the calls of one engine, on its thread. began: called before each call, for whoever watches its time.

    stages: by type of ask. calls, rows, largest: how many calls each has had, of how many rows in all and in the
    largest. costs: of these calls, as their asks say it. retried: asks.
    """

    def __init__(self, stages: Iterable[AnyStage], began: Callable[[], None]) -> None:
        self.stages = {stage.asked: stage for stage in stages}
        self._began = began
        self.limits = RowLimits()
        self.calls, self.rows, self.largest = Counter[str](), Counter[str](), Counter[str]()
        self.costs: dict[str, float] = defaultdict(float)
        self.retried = 0

    def stage(self, asked: Ask[Answer]) -> AnyStage:
        return self.stages[type(asked)]

    def room(self, leading: Ask[Answer]) -> int:
        """The most rows of a call with this ask, by its stage and by what has fitted so far."""
        return self.limits.at(self._size(leading), self.stage(leading).cap(leading))

    def run(self, tasks: Sequence[Task]) -> Outcome:
        """Answer what tasks of one group ask. Raises EngineDead when the device is lost: after such an error every call
        fails, until the process ends."""
        outcome, untried = Outcome(), [tasks] if tasks else []
        while untried:
            group = untried.pop()
            try:
                answers = self._call([task.asked for task in group])
            except torch.AcceleratorError as fault:
                raise EngineDead(f"the device is lost: {fault}") from fault
            except Exception as fault:
                # of a call that did not fit no more than the words: its frames hold what it had allocated
                refused = MemoryError(str(fault)) if out_of_memory(fault) else fault
            else:
                outcome.answers += zip(group, answers.values, strict=True)
                outcome.checks += [] if answers.largest is None else [(group, answers.largest)]
                continue
            if len(group) > 1:
                untried += self._parts(refused, group)
            else:
                log.error("one ask of %s failed: %s", self.stage(group[0].asked).name, refused)
                outcome.answers.append((group[0], explain(refused)))
            del refused  # whose traceback holds this frame
        return outcome

    def _call(self, asks: Sequence[Ask[Answer]]) -> Answers[Answer]:
        stage = self.stage(asks[0])
        self._began()
        answers = stage.run(asks)
        if len(answers.values) != len(asks):
            raise RuntimeError(f"{stage.name} gave {len(answers.values)} answers to {len(asks)} asks")
        rows = sum(ask.rows for ask in asks)
        self.calls[stage.name] += 1
        self.rows[stage.name] += rows
        self.costs[stage.name] += sum(ask.cost for ask in asks)
        self.largest[stage.name] = max(self.largest[stage.name], rows)
        self.limits.note_fit(self._size(asks[0]), rows, stage.cap(asks[0]))
        return answers

    def _parts(self, refused: Exception, tasks: Sequence[Task]) -> list[Sequence[Task]]:
        """The smaller calls to try after one that raised, the first at the end."""
        asked, name = tasks[0].asked, self.stage(tasks[0].asked).name
        self.retried += len(tasks)
        if not isinstance(refused, MemoryError):
            log.warning("a call of %s with %d asks failed, trying them alone: %s", name, len(tasks), refused)
            return [[task] for task in reversed(tasks)]
        rows = sum(task.asked.rows for task in tasks)
        left = self.limits.lower(self._size(asked), rows)
        log.warning("%d rows of %s do not fit into memory: %d from now on", rows, name, left)
        half = len(tasks) // 2
        return [tasks[half:], tasks[:half]]

    def _size(self, ask: Ask[Answer]) -> Size:
        return self.stage(ask).name, ask.cost / ask.rows
