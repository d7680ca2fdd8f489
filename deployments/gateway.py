"""The deployment that clients talk to: the gateway's HTTP application on Serve."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, get_args

from ray.serve.context import _get_global_client
from starlette.applications import Starlette

from deployments.binding import check_host
from deployments.dispatcher_link import DispatcherHandle
from deployments.faults import service_error
from deployments.leader import Handle
from deployments.logs import log_as_serve_does
from deployments.memory import return_large_blocks
from deployments.monitoring import RayMonitor
from deployments.one_machine import check_home
from deployments.placement import read_limits
from deployments.replica import max_ongoing_requests
from gateway.app import Parts, create_app
from gateway.endpoints.fields import OFFSET_LORA
from gateway.errors import ModelError, ValidationErrors
from gateway.files.availability import StoreWatch
from gateway.files.backends import files_of
from gateway.files.upload_quota import UploadAccount
from gateway.keys.sql import SqlKeys
from gateway.ledger.figures import SqlFigures
from gateway.ledger.opening import open_ledger
from gateway.monitoring.contract import STORE_UP
from gateway.monitoring.monitor import Monitor
from gateway.settings import FixedSettings, GatewayLimits, GatewaySettings
from gateway.weights.settings import WeightsSettings
from gateway.weights.sources import unknown
from gateway.work import EXPANDER, FamilyState
from gateway.worker.events import Waker
from gateway.worker.reaper import PeriodicTasks, Reaper
from pipelines import needs
from pipelines.catalogue import Catalogue
from pipelines.parts import Part
from pipelines.performance import MODES
from pipelines.prompts.limits import PromptLimits
from pipelines.prompts.phrasebook import BUNDLED
from pipelines.settings import DrawingSettings
from pipelines.spec import Spec

WATCH_S = 10.0  # between two looks at each store for the metric


class Gateway:
    """Answers clients, from the ledger and the files store; a sync run waits here while the dispatcher has it drawn.

    It also frees what lost dispatchers hold, for one that hangs frees nothing itself.

    open_door: to what the stages draw with.
    """

    async def __init__(  # type: ignore[misc]
        self,
        settings: FixedSettings,
        open_door: Callable[[], "Door"],
        dispatcher: Handle,
    ) -> None:
        return_large_blocks()
        log_as_serve_does()
        self._monitor = RayMonitor()
        await asyncio.to_thread(_check_binding, settings)
        await asyncio.to_thread(check_home, settings, "Gateway")
        self._settings, self._dispatcher = GatewaySettings.of(settings), DispatcherHandle(dispatcher)
        self._waker = Waker(self._dispatcher)
        self._door = await asyncio.to_thread(open_door)
        self._ledger = await open_ledger(self._settings)
        self._keys = SqlKeys(self._ledger.database) if settings.keys == "required" else None

    async def reconfigure(self, user_config: Any) -> None:
        """Serve calls it with the limits before the first call, and whenever they change. Raises ValueError."""
        limits: GatewayLimits = read_limits("Gateway", user_config)
        self._settings.limit(limits)
        self._ledger.limit(limits.max_waiting)

    def __serve_build_asgi_app__(self) -> Starlette:
        files, ledger, tell = files_of(self._settings), self._ledger, StoreGauge(self._monitor).set
        self._watches = (StoreWatch("files", files.check, tell), StoreWatch("ledger", ledger.database.check, tell))
        parts = Parts(
            self._settings,
            ledger,
            files,
            self._dispatcher,
            keys=self._keys,
            history=ledger.history,
            figures=SqlFigures(ledger.database),
            uploads=UploadAccount(ledger.database, self._settings),
            check=self._door.check,
            family=self._door.family,
            watches=self._watches,
            max_ongoing_requests=partial(max_ongoing_requests, "Gateway"),
            monitor=self._monitor,
        )
        app = create_app(parts)
        app.router.lifespan_context = self._lifespan
        return app

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        reaper = Reaper(self._ledger, self._settings.lease_s, monitor=self._monitor)
        reaping = PeriodicTasks([partial(self._reap, reaper)], reaper.period_s)
        loops = [asyncio.create_task(watch.run(WATCH_S)) for watch in self._watches]
        reaped = asyncio.create_task(reaping.run(), name="reaping")
        yield  # until Serve has drained the replica
        reaping.stop()
        for task in loops:
            task.cancel()
        await asyncio.gather(reaped, *loops, return_exceptions=True)
        await self._ledger.close()

    async def _reap(self, reaper: Reaper) -> int:
        if requeued := await reaper.sweep():
            self._waker.wake()
        return requeued


class StoreGauge:
    """What `gateway.files.availability.StoreWatch` tells, as a metric of this replica."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def set(self, store: str, up: bool) -> None:
        self._monitor.set(STORE_UP, float(up), store=store)


class Door:
    """Refuses at the submit what the stages would refuse of a spec. For any thread.

    family: what clients are told of what is drawn with. styles: the names that they may ask for.
    """

    def __init__(
        self,
        limits: PromptLimits,
        catalogue: Catalogue,
        weights: WeightsSettings = WeightsSettings(),  # noqa: B008 (frozen)
        styles: Sequence[str] = BUNDLED.names,
        expands: bool = False,
    ) -> None:
        self._limits, self._catalogue, self._weights = limits, catalogue, weights
        self.family = _state_of(catalogue, styles, expands)

    def check(self, spec: Spec) -> None:
        """Raises ValidationErrors for prompts beyond the limits, and for fields that need what the family lacks."""
        faults = [*self._limits.faults(spec), *needs.faults(spec, self._catalogue, self._unknown)]
        errors = [service_error(fault) for fault in faults]
        if errors:
            raise ValidationErrors([error for error in errors if isinstance(error, ModelError)])

    def _unknown(self, source: str) -> str | None:
        return unknown(source, "LoRA", self._weights.hub)


def door_of(
    settings: DrawingSettings,
    weights: WeightsSettings = WeightsSettings(),  # noqa: B008 (frozen)
    expands: bool = False,
) -> Door:
    """The door to the family that is drawn with; prompts are counted as its own tokenizers do. expands: whether prompts
    are expanded even where the family has nothing for it."""
    from pipelines.prompts.tokenizer import tokenizers_of

    catalogue = Catalogue.open(settings.family, settings.embeddings_folder, settings.loras_folder)
    phrasebook = settings.phrasebook()
    limits = PromptLimits(tokenizers_of(catalogue.config), settings.max_prompt_chunks, phrasebook)
    return Door(limits, catalogue, weights, phrasebook.names, expands)


def _state_of(catalogue: Catalogue, styles: Sequence[str], expands: bool) -> FamilyState:
    """Of every part, and of the LoRAs that the endpoints draw with of themselves."""
    there: dict[str, bool] = {part: catalogue.has(part) for part in get_args(Part)}
    there[EXPANDER] |= expands
    for source in (OFFSET_LORA, *(mode.lora.source for mode in MODES.values() if mode.lora is not None)):
        there[needs.well_known(source) or source] = catalogue.lora(source) is not None
    has = tuple(name for name, is_there in there.items() if is_there)
    missing = {name: catalogue.command_for(name) for name, is_there in there.items() if not is_there}
    return FamilyState(catalogue.name, has, missing, frozenset(styles), catalogue.file.version)


def _check_binding(settings: FixedSettings) -> None:
    client: Any = _get_global_client()
    check_host(client.http_config.host, settings.keys == "required")
