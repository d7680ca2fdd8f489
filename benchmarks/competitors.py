"""The competitors of the mixed arrivals: the engine, `@serve.batch`, and one job after the other."""

import asyncio
import gc
import queue
import threading
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any, Protocol

from ray import serve
from ray.serve._private.common import DeploymentID, ReplicaID
from ray.serve._private.config import DeploymentConfig
from ray.serve.context import _set_internal_replica_context
from ray.serve.schema import ReplicaRank
from torch import Tensor

from benchmarks.plain import Call, PlainLoop, Work
from pipelines.device import PlainDevice
from pipelines.drawing import Drawer, stages
from pipelines.engine.engine import Engine
from pipelines.engine.tasks import Answers
from pipelines.events import Drawn, Pixels
from pipelines.unet.gathering import Gatherer
from pipelines.unet.guide import Evaluate
from pipelines.unet.row_caps import RowCaps
from pipelines.unet.runner import UNetRunner
from pipelines.unet.stage import EvaluationStage
from pipelines.unet.token_cost import TokenCost
from pipelines.weights.family import Family
from pipelines.weights.variants import VariantStore

ROWS = 16  # of the engine's calls
BATCH = 8  # of `@serve.batch`: as many jobs as fill those rows with guidance
WAIT_S = 0.05

Lane = Callable[[Work], Awaitable[Pixels]]


class Competitor(Protocol):
    """Draws jobs; `draw` is called from one thread per job at a time and blocks until the picture is there."""

    name: str

    @property
    def calls(self) -> Sequence[Call]:
        """The UNet calls so far."""

    def draw(self, work: Work) -> Pixels: ...

    def close(self) -> None: ...


class _Watched(EvaluationStage):
    """Notes when each call ran and with how many rows."""

    calls: list[Call]

    def run(self, asks: Sequence[Evaluate]) -> Answers[Tensor]:
        began = perf_counter()
        answers = super().run(asks)
        rows = sum(ask.rows for ask in asks)
        self.calls.append(Call(began, perf_counter(), rows, rows))
        return answers


class OurEngine:
    """The engine, behind its drawer."""

    name = "engine"

    def __init__(self, family: Family, variants: VariantStore) -> None:
        device, caps = PlainDevice(family.device), RowCaps(ROWS)
        self._watched = _Watched(UNetRunner(family.rows), Gatherer(device), caps, TokenCost(family.unet, family.device))
        self._watched.calls = []
        served = [*stages(family, device, caps), self._watched]  # the last stage of an ask is the one that serves it
        self._drawer = Drawer(Engine(served, EvaluationStage.name, device), family, variants, device)

    @property
    def calls(self) -> list[Call]:
        return self._watched.calls

    def draw(self, work: Work) -> Pixels:
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._drawer.submit(uuid.uuid4().hex, work.spec, work.inputs, events.put)
        while not isinstance(event := events.get(), Drawn):
            if isinstance(event, BaseException):
                raise event
        picture: Pixels = event.images[0]
        return picture

    def close(self) -> None:
        self._drawer.close()


class OneByOne:
    """A plain diffusers loop, first come, first served."""

    name = "one after the other"

    def __init__(self, family: Family, variants: VariantStore) -> None:
        self._loop = PlainLoop(family, variants, padded=False)
        self._device = ThreadPoolExecutor(1)

    @property
    def calls(self) -> list[Call]:
        return self._loop.calls

    def draw(self, work: Work) -> Pixels:
        return self._device.submit(self._loop.draw, [work]).result()[0]

    def close(self) -> None:
        self._device.shutdown()


def _lane(loop: PlainLoop, device: ThreadPoolExecutor) -> Lane:
    """A queue of `@serve.batch`. What cannot share a batch of the loop is drawn in batches one after the other."""

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT_S)  # the queue belongs to the decorated function
    async def draw(works: list[Work]) -> list[Pixels]:
        return await asyncio.get_running_loop().run_in_executor(device, _draw_alike, loop, works)

    lane: Lane = draw
    return lane


def _draw_alike(loop: PlainLoop, works: Sequence[Work]) -> list[Pixels]:
    alike: dict[Hashable, list[int]] = defaultdict(list)
    for at, work in enumerate(works):
        alike[work.like].append(at)
    drawn: dict[int, Pixels] = {}
    for places in alike.values():
        drawn.update(zip(places, loop.draw([works[at] for at in places]), strict=True))
    return [drawn[at] for at in range(len(works))]


class ServeBatch:
    """Ray Serve's own batching, in this process: no network and no copies between it and its callers.

    by_sort: a queue for each sort of like jobs instead of one for all, and rows that are finished leave the call: the
    most that can be had from `@serve.batch` without stepping inside a batch.
    """

    def __init__(self, family: Family, variants: VariantStore, *, by_sort: bool) -> None:
        self.name = "@serve.batch, a queue a sort, unpadded" if by_sort else "@serve.batch"
        self._plain = PlainLoop(family, variants, padded=not by_sort)
        self._device = ThreadPoolExecutor(1)
        self._by_sort = by_sort
        self._lanes: dict[Hashable, Lane] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @property
    def calls(self) -> list[Call]:
        return self._plain.calls

    def draw(self, work: Work) -> Pixels:
        return asyncio.run_coroutine_threadsafe(self._draw(work), self._loop).result()

    async def _draw(self, work: Work) -> Pixels:
        sort = work.like if self._by_sort else None
        if sort not in self._lanes:
            _pretend_to_be_a_replica()
            self._lanes[sort] = _lane(self._plain, self._device)
        return await self._lanes[sort](work)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end_queues(), self._loop).result()
        asyncio.run_coroutine_threadsafe(self._destroy_queues(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._device.shutdown()

    async def _end_queues(self) -> None:
        """A queue of `@serve.batch` waits for requests without end."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._lanes.clear()

    async def _destroy_queues(self) -> None:
        """The destructor of a queue makes an event loop, which nobody closes, where none runs."""
        gc.collect()


def _pretend_to_be_a_replica() -> None:
    """Outside a replica a queue of `@serve.batch` finds nobody to ask for `max_ongoing_requests`, the one thing that it
    wants of a replica: it would warn of a value that its batches do not fit in."""
    _set_internal_replica_context(
        replica_id=ReplicaID("benchmark", DeploymentID("benchmark")),
        servable_object=_draw_alike,
        _deployment_config=DeploymentConfig(max_ongoing_requests=1000),
        rank=ReplicaRank(rank=0, node_rank=0, local_rank=0),
        world_size=1,
    )
