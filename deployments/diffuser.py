"""The deployment that draws: an async shim over the engine."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from time import monotonic, time
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from ray import serve

from deployments.channel import Channel
from deployments.faults import service_errors
from deployments.figures import Spent
from deployments.memory import return_large_blocks
from deployments.reporting import keep_reporting
from deployments.routing import Elsewhere
from deployments.stage import StageLog
from deployments.weights import Brings
from gateway.monitoring.contract import (
    ADAPTERS,
    BASES,
    BYTES_BROUGHT,
    DEVICE_SECONDS,
    LIVE_JOBS,
    LOWERED,
    PADDING_TOKENS,
    PARTS_BROUGHT,
    PICTURES,
    PROMPT_TOKENS,
    RETRIED,
    UNET_CALLS,
    UNET_ROWS,
    UNET_SECONDS,
    Metric,
)
from gateway.monitoring.trace import Trace
from pipelines.events import Complete, Drawn, Event, Note, Pixels, Step, Words
from pipelines.inputs import Inputs
from pipelines.prompts.assembly import expanded
from pipelines.spec import Spec
from pipelines.weights.at_hand import Weights

if TYPE_CHECKING:
    from pipelines.events import EngineStats
    from pipelines.settings import DrawingSettings


REPORT_PERIOD_S = 1.0

Told = tuple[Elsewhere | Event | Words | Complete, ...]

# counts of the engine: the metric of each, and its labels
COUNTED: Mapping[str, tuple[Metric, Mapping[str, str]]] = {
    "unet_calls": (UNET_CALLS, {}),
    "unet_rows": (UNET_ROWS, {}),
    "unet_seconds": (UNET_SECONDS, {}),
    "busy_s": (DEVICE_SECONDS, {}),
    "prompt_tokens": (PROMPT_TOKENS, {}),
    "padding_tokens": (PADDING_TOKENS, {}),
    "bases_found": (BASES, {"cache": "hit"}),
    "bases_built": (BASES, {"cache": "miss"}),
    "adapters_found": (ADAPTERS, {"cache": "hit"}),
    "adapters_built": (ADAPTERS, {"cache": "miss"}),
    "retried": (RETRIED, {}),
    "parts_brought": (PARTS_BROUGHT, {}),
    "bytes_brought": (BYTES_BROUGHT, {}),
}


class Draws(Protocol):
    """The part of `pipelines.drawing.Drawer` that a replica uses."""

    def submit(
        self,
        job_id: str,
        spec: Spec,
        inputs: Inputs,
        on_event: Callable[[Event | BaseException], None],
        *,
        previews: bool = False,
    ) -> None: ...

    def cancel(self, job_id: str) -> None: ...

    def check(self) -> None: ...

    def stats(self) -> "EngineStats": ...

    def variants(self) -> tuple[str, ...]: ...

    def holds(self) -> tuple[Weights, ...]: ...

    def close(self) -> None: ...


class Diffuser:
    """Draws specs on one device; many at once, since the engine batches them step by step.

    capacity: how many rows of requests the dispatcher may send here at once.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, open_drawer: Callable[[], Draws], capacity: int, open_weights: Callable[[], Brings]
    ) -> None:
        """open_weights: to what brings the files of inputs to this node."""
        return_large_blocks()
        self._log = StageLog.of("draw")
        self._weights = open_weights()
        self._drawer = await asyncio.to_thread(open_drawer)
        self._holds = capacity
        told = self._capacity, self._drawer.variants, self._spent, self._drawer.holds
        self._reporting = asyncio.create_task(keep_reporting(*told))
        self._told = self._drawer.stats()
        self._seen = dict.fromkeys(COUNTED, 0.0)
        self._reported_at = 0.0
        self._live = 0

    async def draw(
        self,
        request_id: str,
        spec: Spec,
        inputs: Inputs,
        expansions: Sequence[str] = (),
        previews: bool = False,
        asked_at: float = 0.0,
        trace: Trace | None = None,
        place: str = "",
    ) -> AsyncIterator[Told | Pixels]:
        """Draw a spec: notes of its inputs and of its LoRAs, `Step` events, behind the first one its words, with
        `previews` also `Preview` events, then `Complete`, and last the pixels, (n, height, width, 3) uint8 RGB.

        What is there at once is one item, for each costs as much as what is in it. The pixels are an item of their own,
        so that a caller who only passes them on need not read them. They belong to that caller, and outlive this
        replica.

        expansions: the main text of each picture, lengthened; empty where nothing was added, or none at all. asked_at:
        when the caller asked, in seconds since 1970. trace: whose they are, for the log. place: the replica that was to
        draw it, and where that is not this one, the stream begins with `Elsewhere`; empty for any. Closing or
        cancelling it takes the job's rows out of the batch at the next step. Raises ModelError for what cannot be drawn
        and PlatformError when the engine is lost.
        """
        timing = Timing(inputs, asked_at)
        job_id = f"{request_id}.{uuid4().hex}"  # a lost caller's attempt may still be here when the next one comes
        channel = Channel(asyncio.get_running_loop())
        with self._log.told(trace), service_errors():
            if place and place != (here := serve.get_replica_context().replica_id.unique_id):
                yield (Elsewhere(here),)
            inputs = replace(await self._brought(inputs), texts=expanded(inputs.texts, expansions))
            self._drawer.submit(job_id, spec, inputs, channel.put, previews=previews)
            self._live += 1
            told = inputs.enlarges_alone
            try:
                self._report()
                if inputs.notes:
                    yield tuple(map(Note, inputs.notes))
                async for events in channel.events():
                    if monotonic() - self._reported_at >= REPORT_PERIOD_S:
                        self._report()
                    said: list[Event | Words] = []
                    for event in events:
                        if isinstance(event, Drawn):
                            self._log.monitor.add(PICTURES, len(event.images))
                            yield (*said, Complete(len(event.images), timing.of(event)))
                            yield event.images
                            return
                        timing.hear(event)
                        said.append(event)
                        if not told:  # behind the first step, which says when the drawing began
                            told = True
                            said.append(Words(inputs.texts))
                    yield tuple(said)
            finally:
                self._drawer.cancel(job_id)
                self._live -= 1
                self._report()

    async def _brought(self, inputs: Inputs) -> Inputs:
        """The inputs with files of this node."""
        loras = [replace(found, path=await self._weights.bring(found.path)) for found in inputs.loras]
        embeddings = [replace(found, path=await self._weights.bring(found.path)) for found in inputs.embeddings]
        return replace(inputs, loras=tuple(loras), embeddings=tuple(embeddings))

    async def stats(self) -> "EngineStats":
        """Counts of the engine since it started."""
        return self._drawer.stats()

    def check_health(self) -> None:
        """Raises EngineDead when the engine has ended or hangs, and whatever has ended this replica's reports, without
        which nothing is sent here; Serve then replaces it."""
        if self._reporting.done():
            self._reporting.result()
        self._drawer.check()

    def _capacity(self) -> int:
        try:
            self._drawer.check()
        except Exception:
            return 0  # it waits to be replaced
        return self._holds

    def _spent(self) -> Spent:
        """What was drawn since this was last asked."""
        before, now = self._told, self._drawer.stats()
        self._told = now
        return Spent(
            live=self._live,
            calls=now.unet_calls - before.unet_calls,
            rows=now.unet_rows - before.unet_rows,
            row_steps=now.unet_row_steps - before.unet_row_steps,
            seconds=now.busy_s - before.busy_s,
            bases_found=now.bases_found - before.bases_found,
            bases_built=now.bases_built - before.bases_built,
            adapters_found=now.adapters_found - before.adapters_found,
            adapters_built=now.adapters_built - before.adapters_built,
        )

    def _report(self) -> None:
        self._reported_at = monotonic()
        monitor, stats = self._log.monitor, self._drawer.stats()
        monitor.set(LIVE_JOBS, self._live)
        monitor.set(LOWERED, stats.lowered)
        for name, (metric, labels) in COUNTED.items():
            now = getattr(stats, name)
            monitor.add(metric, now - self._seen[name], **labels)
            self._seen[name] = now

    def __del__(self) -> None:
        drawer = getattr(self, "_drawer", None)  # not there when the weights could not be loaded
        if drawer is not None:
            drawer.close()


class Timing:
    """The seconds of one drawing that its engine does not see: begun when a replica has a place for it."""

    def __init__(self, inputs: Inputs, asked_at: float) -> None:
        now = time()
        self._placed_s = max(0.0, now - max(inputs.ready_at or now, asked_at))  # clocks of two nodes may differ
        self._prepare_s, self._since = inputs.took_s, monotonic()
        self._draws = False

    def hear(self, event: Event) -> None:
        if not self._draws and isinstance(event, Step | Drawn):  # the first step says that all is prepared
            self._draws, self._prepare_s = True, self._prepare_s + monotonic() - self._since

    def of(self, drawn: Drawn) -> dict[str, float]:
        """The timings of the last event with `prepare`, and with the way to this place as part of `wait`."""
        self.hear(drawn)
        waited = self._placed_s + drawn.timings.get("wait", 0.0)
        return {**drawn.timings, "prepare": self._prepare_s, "wait": waited}


def drawer_of(settings: "DrawingSettings") -> Draws:
    """The real drawer. Imports torch, so only the replica that draws calls it."""
    from pipelines.drawing import Drawer

    return Drawer.open(settings)
