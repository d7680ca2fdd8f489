"""The deployment that takes requests from the ledger and runs them through the graph, and sends webhooks.

Of several replicas one does, which leads. The others stand by.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, cast
from uuid import uuid4

import ray
from ray import serve
from ray.serve.exceptions import RayServeException

from deployments.autoscaling import publish
from deployments.figures import Meter, Spent
from deployments.graph import Graph, Stages
from deployments.leader import by_leader
from deployments.logs import leave_out_calls_of, log_as_serve_does
from deployments.memory import return_large_blocks
from deployments.monitoring import RayMonitor
from deployments.one_machine import check_home
from deployments.overview import Recents, drawers_of
from deployments.placement import check_grace, read_limits
from deployments.replica import Around, around, identity, shutdown_timeout_s
from gateway.files.availability import StoreWatch
from gateway.files.base import Files
from gateway.files.upload_quota import QuotaReconciler, UploadAccount
from gateway.keys.sql import SqlKeys
from gateway.ledger.figures import SqlFigures
from gateway.ledger.models import AtOnce
from gateway.ledger.opening import open_ledger
from gateway.ledger.store import SqlLedger
from gateway.metering.fal import FalFigures, Runners
from gateway.metering.ledger_meter import LedgerMeter
from gateway.monitoring.contract import CAPACITY, REPLICAS
from gateway.settings import DispatcherLimits, FixedSettings, GatewaySettings
from gateway.webhooks.sender import Sender, SendingLimits
from gateway.webhooks.signing import ring_of
from gateway.work import Runner
from gateway.worker.capacity import REPORT_S, ReplicaRegistry, Room
from gateway.worker.dispatcher import DispatchLoop
from gateway.worker.events import Broadcast, Changed, News, Submitted
from gateway.worker.leading import Leading
from gateway.worker.overview import Overview
from gateway.worker.places import Places
from gateway.worker.reaper import PeriodicTasks, Retention
from pipelines.weights.at_hand import Weights

NOTHING = Spent()
SETTLING_S = 3 * REPORT_S  # after it has begun to lead: by then all replicas have told of themselves
LAST_GRACE_S = 20.0  # of requests that are drawn when everything goes: Serve ends all replicas after 30 s


class Dispatcher:
    """Runs the dispatching loop, the sender of webhooks and the housekeeping for as long as its replica leads."""

    async def __init__(  # type: ignore[misc]
        self, settings: FixedSettings, stages: Stages, files: Files, machine: str
    ) -> None:
        """machine: the device that pictures are drawn on, as metrics call it."""
        return_large_blocks()
        log_as_serve_does()
        leave_out_calls_of("report", "poll", "watch", "wake", "hear", "room", "overview")
        given = GatewaySettings.of(settings)
        await asyncio.to_thread(check_home, settings, "Dispatcher")
        ledger = await open_ledger(given)
        keys = SqlKeys(ledger.database) if settings.keys == "required" else None
        self._start(ledger, keys, files, partial(Graph, stages), given, machine)

    def _start(
        self,
        ledger: SqlLedger,
        keys: SqlKeys | None,
        files: Files,
        runner_of: Callable[[Places], Runner],
        settings: GatewaySettings,
        machine: str = "cpu",
    ) -> None:
        owner = f"dispatcher-{uuid4().hex}"
        self._ledger, self._settings = ledger, settings
        self._meter, self._recents = Meter(), Recents()
        self._replicas = ReplicaRegistry()
        self._places = Places(self._replicas, settings.look_ahead, settings.capacity)
        runner, capacity, at_once = runner_of(self._places), self._places.capacity, None

        def of_key() -> int | None:
            return None if keys is None else share_of_key(capacity(), settings.key_share)

        if keys is not None:
            at_once = partial(limits_of_keys, keys, of_key)
        self._broadcast = Broadcast()
        limits = SendingLimits(allow_loopback=settings.allow_loopback_urls)
        self._monitor = RayMonitor()
        self._around, self._asking = Around(), cast(asyncio.Task[Around] | None, None)
        self._sender = Sender(ledger.outbox, ring_of(settings), limits, owner, monitor=self._monitor)
        service, self._name = identity(owner)
        self.leading = Leading(
            ledger.leadership, service, self._name, settings.leader_lease_s, self._lead, monitor=self._monitor
        )
        well = StoreWatch("files", files.check).well

        async def may_begin() -> bool:
            return self.leading.is_sure and await well()

        leaving = partial(asyncio.to_thread, is_deleted)
        self._dispatching = DispatchLoop(
            ledger,
            runner,
            settings,
            owner,
            capacity,
            at_once=at_once,
            of_key=of_key,
            broadcast=self._broadcast,
            may_begin=may_begin,
            is_leaving=leaving,
            on_end=self._sender.wake,
            monitor=self._monitor,
            places=self._places,
        )
        retention = Retention(ledger.history, files, settings)
        # after the sweep of files, so that what has expired is gone before its place is given back
        uploads = QuotaReconciler(UploadAccount(ledger.database, settings), files)
        sweeps = [retention.sweep, files.sweep, uploads.sweep, ledger.database.shrink]
        self._housekeeping = PeriodicTasks(sweeps, settings.sweep_s)
        self._ledger_meter = LedgerMeter(SqlFigures(ledger.database), self._monitor, FalFigures(machine), self._runners)
        self._metering = cast(asyncio.Task[None] | None, None)
        self._loops = [asyncio.create_task(self.leading.run(), name="leading")]

    def _lead(self) -> None:
        self._led_at = monotonic()
        self._metering = asyncio.create_task(self._ledger_meter.run(), name="metering")
        self._loops += [
            asyncio.create_task(self._dispatching.run(), name="dispatching"),
            asyncio.create_task(self._sender.run(), name="webhooks"),
            asyncio.create_task(self._housekeeping.run(), name="housekeeping"),
        ]

    async def reconfigure(self, user_config: Any) -> None:
        """Serve calls it with the limits at the start, and whenever they change. Raises ValueError."""
        limits: DispatcherLimits = read_limits("Dispatcher", user_config)
        self._settings.limit(limits)
        self._places.bound(limits.look_ahead, limits.capacity)
        self._housekeeping.every(limits.sweep_s)
        self._dispatching.wake()  # there may be more places

    @by_leader
    async def report(
        self,
        replica: str,
        capacity: int,
        variants: tuple[str, ...],
        spent: Spent = NOTHING,
        holds: tuple[Weights, ...] = (),
    ) -> None:
        """A replica that draws lives, draws `capacity` rows at once, and has the weights of `variants` at hand, and of
        `holds`, as requests name them. spent: what it has drawn since its last report."""
        before = self._places.capacity()
        self._replicas.report(replica, capacity, variants, holds, spent.live)
        self._meter.hear(replica, spent, self._replicas.is_full(replica))
        self._recents.hear(replica, spent)
        self._places.place()
        if self._places.capacity() > before:
            self._dispatching.wake()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve asks for these, where this deployment has an autoscaling_config, and gives them to the policy. Without
        a ledger there are none, and the policy leaves everything as it is; who stands by has none, nor who has just
        begun to lead and has heard of no replica yet, for all that they draw would seem to wait."""
        if not self.leading.leads or (monotonic() - self._led_at < SETTLING_S and not self._replicas.living()):
            return {}
        demand = await self._ledger.demand(self._meter.newest)
        figures = self._meter.figures(demand, self._replicas.living().keys(), self._places.room())
        return publish(figures, self._settings.scaling.model_dump())

    @by_leader
    async def poll(
        self, listener: str, number: int, runs: Mapping[str, bool], submitted: Sequence[Submitted] = ()
    ) -> News:
        """See `gateway.worker.events.DispatcherLink.poll`."""
        self._broadcast.follow(listener, number, runs)
        for request_id, claim in submitted:
            await self._dispatching.submitted(request_id, claim)
        return News(await self._broadcast.events(listener), self._dispatching.free_places())

    @by_leader
    async def watch(self, listener: str) -> Changed:
        """Which requests changed since a gateway last asked. Held while none did, for a second."""
        return await self._broadcast.watch(listener)

    @by_leader
    async def wake(self) -> None:
        """Look now for requests that wait."""
        self._dispatching.wake()

    @by_leader
    async def hear(self, request_id: str) -> None:
        """See `gateway.worker.events.DispatcherLink.hear`."""
        self._dispatching.hear(request_id)

    @by_leader
    async def room(self) -> Room:
        """See `gateway.worker.events.DispatcherLink.room`."""
        self._check_loops()
        return self._replicas.room()

    @by_leader
    async def overview(self) -> Overview:
        """See `gateway.worker.events.DispatcherLink.overview`."""
        told, drawers = self._told_around(), drawers_of(self._replicas, self._recents)
        return Overview(self._name, monotonic() - self._led_at, drawers, told.starting, told.metrics)

    async def _runners(self) -> Runners:
        """How many replicas draw, for the metrics."""
        alive = len(self._replicas.living())
        self._monitor.set(REPLICAS, alive)
        self._monitor.set(CAPACITY, self._places.capacity())
        told = self._told_around()
        if self._asking is None:
            self._asking = asyncio.create_task(asyncio.to_thread(around, "Diffuser"))
        return Runners(alive, told.starting)

    def _told_around(self) -> Around:
        """What the cluster said last, which will do: it may be slow, or its controller away."""
        if self._asking is not None and self._asking.done():
            self._around, self._asking = self._asking.result(), None
        return self._around

    def check_health(self) -> None:
        """Raises when a loop has ended, so that Serve replaces this replica, and where what is set cannot hold."""
        # not in `reconfigure`, during which Serve still tells the options from before
        check_grace(self._settings.stop_grace_s, shutdown_timeout_s("Dispatcher"))
        self._check_loops()

    def _check_loops(self) -> None:
        for loop in self._loops:
            if loop.done():
                raise RuntimeError(f"the loop of {loop.get_name()} has ended")

    @by_leader
    async def drain(self) -> None:
        """Tell clients that wait, finish or put back what is held: to be called before the service is shut down.

        Serve's own shutdown cuts the connections of clients first, and ends replicas whatever their graces are.
        """
        await self._dispatching.stop(for_good=True)

    async def stop(self) -> None:
        """Claim nothing more, finish or put back what is held, and close the ledger. Another one leads at once, unless
        all are to go."""
        if await asyncio.to_thread(is_deleted):
            await self._dispatching.stop(min(self._settings.stop_grace_s, LAST_GRACE_S), for_good=True)
            await self.leading.leave()
        else:
            await self.leading.leave()
            if self._metering is not None:
                self._metering.cancel()  # from here on the next one tells of the ledger
            await self._dispatching.stop()
        self._sender.stop()
        self._housekeeping.stop()
        extra = [task for task in (self._metering, self._asking) if task is not None]
        for task in extra:
            task.cancel()
        await asyncio.wait([*self._loops, *extra])
        await self._ledger.close()

    def __del__(self) -> Coroutine[Any, Any, None] | None:
        # Serve calls this when a replica stops, and awaits what it returns; nobody else must get a coroutine.
        loops = getattr(self, "_loops", None)
        return self.stop() if loops is not None and not all(loop.done() for loop in loops) else None


def is_deleted() -> bool:
    """Whether the whole application of this replica goes, and not this replica alone. Blocks."""
    if not ray.is_initialized():  # this is no replica of a cluster, and asking Serve would start one
        return False
    try:
        name = serve.get_replica_context().app_name
    except RayServeException:
        return False
    try:
        application = serve.status().applications.get(name)
    except Exception:  # without a controller nothing is put in this replica's place
        return True
    return application is None or application.status == "DELETING"


async def limits_of_keys(keys: SqlKeys, share: Callable[[], int | None]) -> AtOnce:
    """How many requests each key may have held: its own limit, else its share of what can be held in all."""
    return AtOnce(share(), await keys.at_once())


def share_of_key(places: int, share: float) -> int:
    """How many of all places a key may have, so that one which asks for long pictures without end leaves some for the
    others, at least one.
    """
    return max(1, min(int(places * share), places - 1))
