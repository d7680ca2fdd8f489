"""A dispatcher that places what it draws, for an application with replicas of a Diffuser that keeps few bases."""

import asyncio
import os
from collections.abc import Callable, Sequence

from deployments.figures import Spent
from deployments.graph import Graph, Stages
from deployments.leader import Told
from gateway.work import Note, Work
from gateway.worker.capacity import ReplicaRegistry
from gateway.worker.places import Places
from pipelines.events import Event
from pipelines.events import Note as Said
from pipelines.inputs import Inputs
from pipelines.spec import Spec
from pipelines.wanted import weights_of
from pipelines.weights.at_hand import Weights
from tests.deployments.fakes import FakeDrawer


class ForgetfulDrawer(FakeDrawer):
    """Has two bases at hand, the last, and says which process draws and whether it had the base."""

    def __init__(self) -> None:
        super().__init__(step_s=0.005, keeps=2)

    def submit(
        self,
        job_id: str,
        spec: Spec,
        inputs: Inputs,
        on_event: Callable[[Event | BaseException], None],
        *,
        previews: bool = False,
    ) -> None:
        had = weights_of(spec).base in {weights.base for weights in self.holds()}
        on_event(Said(f"{os.getpid()} {'had' if had else 'lacked'} it"))
        super().submit(job_id, spec, inputs, on_event, previews=previews)


class Dispatcher:
    def __init__(self, stages: Stages) -> None:
        self._replicas = ReplicaRegistry()
        self._places = Places(self._replicas, 4, 256)
        self._graph, self._chooseless = Graph(stages, self._places), Graph(stages)

    async def report(
        self, replica: str, capacity: int, variants: tuple[str, ...], spent: Spent, holds: tuple[Weights, ...]
    ) -> Told:
        self._replicas.report(replica, capacity, variants, holds)
        self._places.place()
        return Told("", True)

    async def living(self) -> int:
        return len(self._replicas.living())

    async def draw(self, works: Sequence[Work], *, placed: bool) -> list[str]:
        """What the drawer said of each."""
        graph = self._graph if placed else self._chooseless

        async def said(number: int, work: Work) -> str:
            self._places.hold(work.request_id, 1, (0, number))
            notes = [event.text async for event in graph.run(work) if isinstance(event, Note)]
            self._places.let_go(work.request_id, 1)
            return next(note for note in notes if note.endswith(" it"))

        return await asyncio.gather(*(said(number, work) for number, work in enumerate(works)))
