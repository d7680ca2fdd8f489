"""An engine that stops in the midst of its drawings for as long as a file is there."""

from collections.abc import Callable
from pathlib import Path

from pipelines.events import Event, Step
from pipelines.inputs import Inputs
from pipelines.spec import Spec
from tests.deployments.fakes import FakeDrawer

FREE = 5  # seeds below it are drawn all the same
STEP_S = 0.05


class HoldingDrawer(FakeDrawer):
    """Begins everything and holds it at its first step while `hold` is there."""

    def __init__(self, hold: Path) -> None:
        super().__init__(STEP_S)
        self._hold = hold

    def _draw(
        self,
        job_id: str,
        spec: Spec,
        inputs: Inputs,
        on_event: Callable[[Event | BaseException], None],
        previews: bool,
    ) -> None:
        on_event(Step(0, spec.steps))
        while spec.seeds[0] >= FREE and self._hold.exists() and not self._cancelled[job_id].wait(STEP_S):
            pass
        super()._draw(job_id, spec, inputs, on_event, previews)
