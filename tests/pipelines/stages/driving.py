"""Running a routine on stages, without an engine."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch

from pipelines.engine.tasks import Advance, Routine

T = TypeVar("T")


def driven(routine: Routine[T], stages: Sequence[Any], told: list[int] | None = None) -> T:
    """What a routine returns. told: gets the steps that it says are done."""
    by_ask = {stage.asked: stage for stage in stages}
    answer: Any = None
    with torch.inference_mode():
        while True:
            try:
                asked = routine.send(answer)
            except StopIteration as returned:
                result: T = returned.value
                return result
            if isinstance(asked, Advance):
                answer = None
                if told is not None:
                    told.append(asked.done)
            else:
                (answer,) = by_ask[type(asked)].run([asked]).values
