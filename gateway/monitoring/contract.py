"""The metrics by contract: what is exported, in which unit, with which labels, and what it means.

Alerts, the dashboard and the table of docs/operations.md name nothing else; tests hold them to it. No label has a value
that a client could choose: endpoints, priorities, stages and the like are few.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

PREFIX = "ray_"  # of Ray's exporter, before every name

# Seconds. What waits in a queue and what a picture takes have several orders of magnitude.
FAST_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SLOW_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1800.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. unit: of its values; empty where they are plain counts. labels: besides those of Serve (`deployment`,
    `replica`, `application`), which fal's have not. where: the deployments that export it. buckets: of a histogram."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    where: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()

    @property
    def is_fals(self) -> bool:
        return self.name.startswith("fal_")


def _counter(name: str, unit: str, labels: tuple[str, ...], where: tuple[str, ...], meaning: str) -> Metric:
    return Metric(name, "counter", unit, labels, where, meaning)


def _gauge(name: str, unit: str, labels: tuple[str, ...], where: tuple[str, ...], meaning: str) -> Metric:
    return Metric(name, "gauge", unit, labels, where, meaning)


def _histogram(
    name: str, unit: str, labels: tuple[str, ...], where: tuple[str, ...], meaning: str, buckets: tuple[float, ...]
) -> Metric:
    return Metric(name, "histogram", unit, labels, where, meaning, buckets)


_GATEWAY, _DISPATCHER, _BOTH = ("Gateway",), ("Dispatcher",), ("Gateway", "Dispatcher")
_DIFFUSER, _PREPROCESSOR = ("Diffuser",), ("Preprocessor",)
STAGES = ("Preprocessor", "PromptExpander", "Diffuser", "SafetyChecker", "Postprocessor")

# --- The queue ---

ACCEPTED = _counter(
    "fooocus_requests_accepted_total",
    "requests",
    ("endpoint", "kind", "priority"),
    _GATEWAY,
    "requests that the ledger took; `kind` is `queue` or `run`",
)
DEPTH = _gauge(
    "fooocus_queue_depth",
    "requests",
    ("endpoint", "priority"),
    _DISPATCHER,
    "requests that wait to be claimed, asked of the ledger every few seconds",
)
OLDEST_WAIT = _gauge(
    "fooocus_queue_oldest_wait_seconds",
    "seconds",
    ("endpoint", "priority"),
    _DISPATCHER,
    "how long the one among them waits that came first; 0 where none does",
)
HELD = _gauge(
    "fooocus_requests_held",
    "requests",
    ("endpoint", "state"),
    _DISPATCHER,
    "requests that dispatchers hold; `state` is `claimed` (on the way to a replica) or `running`",
)
WAIT = _histogram(
    "fooocus_queue_wait_seconds",
    "seconds",
    ("endpoint", "priority"),
    _DISPATCHER,
    "from the submit to the claim, earlier attempts included",
    SLOW_S,
)
ENDED = _counter(
    "fooocus_requests_ended_total",
    "requests",
    ("endpoint", "outcome", "error_type"),
    _DISPATCHER,
    "requests that ended, whoever ended them; `outcome` is `ok`, `error` or `cancelled`, "
    "`error_type` fal's word for why, or `none`",
)
REQUEST_SECONDS = _histogram(
    "fooocus_request_seconds",
    "seconds",
    ("endpoint", "outcome"),
    _DISPATCHER,
    "from the submit to the end",
    SLOW_S,
)
CANCELLED_RUNNING = _counter(
    "fooocus_requests_cancelled_running_total",
    "requests",
    ("endpoint",),
    _DISPATCHER,
    "of those that were cancelled: that were being drawn, so that work was lost",
)
REQUEUED = _counter(
    "fooocus_requests_requeued_total",
    "requests",
    ("endpoint",),
    _DISPATCHER,
    "requests that lost their runner or a store, and go back into the queue unless they have no attempts left",
)
LEASES_EXPIRED = _counter(
    "fooocus_leases_expired_total",
    "requests",
    (),
    _BOTH,
    "requests whose owner fell silent and that are in the queue again: a dispatcher died or hangs",
)
CAPACITY = _gauge(
    "fooocus_capacity_requests",
    "requests",
    (),
    _DISPATCHER,
    "how many the dispatcher may hold now: what the Diffusers that report hold, and a few more",
)
REPLICAS = _gauge(
    "fooocus_replicas_reporting",
    "replicas",
    (),
    _DISPATCHER,
    "Diffusers that have reported within the last seconds",
)
LEADS = _gauge(
    "fooocus_dispatcher_leads",
    "",
    (),
    _DISPATCHER,
    "1 of the dispatcher that leads, 0 of one that stands by",
)
BEATS = _counter(
    "fooocus_beats_total",
    "beats",
    (),
    _DISPATCHER,
    "turns of the dispatcher's heartbeat, one every `beat_s`: it stands still where the ledger is away or "
    "the process hangs",
)
BEAT_SECONDS = _histogram(
    "fooocus_beat_seconds",
    "seconds",
    (),
    _DISPATCHER,
    "what a heartbeat takes at the ledger",
    FAST_S,
)

# --- Stores and webhooks ---

STORE_UP = _gauge(
    "fooocus_store_up",
    "",
    ("store",),
    _GATEWAY,
    "1 while the store `files` or `ledger` can be reached and written, else 0; looked at every ten seconds",
)
STORE_ERRORS = _counter(
    "fooocus_store_errors_total",
    "calls",
    ("store",),
    _BOTH,
    "calls and requests that failed, or wait, because that store was away",
)
WEBHOOKS_WAITING = _gauge(
    "fooocus_webhooks_waiting",
    "webhooks",
    (),
    _DISPATCHER,
    "webhooks that are owed and not delivered or given up",
)
WEBHOOKS_OLDEST = _gauge(
    "fooocus_webhooks_oldest_seconds",
    "seconds",
    (),
    _DISPATCHER,
    "how long ago the request ended whose webhook is owed longest; 0 where none is",
)
WEBHOOK_ATTEMPTS = _counter(
    "fooocus_webhook_attempts_total",
    "attempts",
    ("result",),
    _DISPATCHER,
    "attempts at webhooks; `result` is `delivered` or `failed`",
)

# --- Stages ---

STAGE_SECONDS = _histogram(
    "fooocus_stage_seconds",
    "seconds",
    ("stage", "result"),
    STAGES,
    "what one request takes in `prepare`, `expand`, `draw`, `check` or `deliver`, waiting in it included; `result` is "
    "`ok`, `refused` (the request's own fault), `fault` or `cancelled`",
    SLOW_S,
)
PICTURES = _counter(
    "fooocus_pictures_total",
    "pictures",
    (),
    _DIFFUSER,
    "pictures that were drawn",
)
DEVICE_SECONDS = _counter(
    "fooocus_device_seconds_total",
    "seconds",
    (),
    _DIFFUSER,
    "seconds in which the engine's device worked; over pictures it is the GPU seconds of one, over time how busy it is",
)
UNET_CALLS = Metric("fooocus_unet_calls_total", "counter", "calls", (), _DIFFUSER, "UNet calls, each a step of many")
UNET_ROWS = _counter(
    "fooocus_unet_rows_total",
    "rows",
    (),
    _DIFFUSER,
    "rows of those calls; over calls it is the rows a step: how well running pictures share them",
)
UNET_SECONDS = _counter(
    "fooocus_unet_seconds_total",
    "seconds",
    (),
    _DIFFUSER,
    "seconds of those calls; over calls it is what a step takes",
)
PROMPT_TOKENS = _counter(
    "fooocus_prompt_tokens_total",
    "tokens",
    (),
    _DIFFUSER,
    "tokens of prompts in all rows of UNet calls, what fills them up included",
)
PADDING_TOKENS = _counter(
    "fooocus_padding_tokens_total",
    "tokens",
    (),
    _DIFFUSER,
    "of these: that fill up shorter prompts, and rows that fill up a compiled call; their share is the padding's waste",
)
BASES = _counter(
    "fooocus_bases_total",
    "requests",
    ("cache",),
    _DIFFUSER,
    "bases (UNet weights with what is merged into them) that requests needed; `cache` is `hit` or "
    "`miss`, which builds one",
)
ADAPTERS = _counter(
    "fooocus_adapters_total",
    "LoRAs",
    ("cache",),
    _DIFFUSER,
    "likewise LoRAs that rows carry; a `miss` reads the file",
)
RETRIED = _counter(
    "fooocus_retried_asks_total",
    "asks",
    (),
    _DIFFUSER,
    "parts of failed calls that were tried again, and requests that were begun again because values were not finite: a "
    "LoRA or a size may not work",
)
LOWERED = _gauge(
    "fooocus_lowered_row_caps",
    "sizes",
    (),
    _DIFFUSER,
    "sizes of which fewer rows fit into memory than were tried: lower `rows`, or set `profile_sizes`",
)
LIVE_JOBS = Metric("fooocus_live_jobs", "gauge", "requests", (), _DIFFUSER, "requests that are being drawn")
PARTS_BROUGHT = _counter(
    "fooocus_parts_brought_total",
    "models",
    (),
    _DIFFUSER,
    "models that were copied to a device that does not hold the whole family; 0 where it does. See "
    "[A device that does not hold the family](#a-device-that-does-not-hold-the-family)",
)
BYTES_BROUGHT = Metric("fooocus_bytes_brought_total", "counter", "bytes", (), _DIFFUSER, "bytes of them")
WEIGHTS_BYTES = _counter(
    "fooocus_weights_fetched_bytes_total",
    "bytes",
    (),
    _PREPROCESSOR,
    "bytes of weights that came in by address or as uploads",
)
WEIGHTS_HITS = _counter(
    "fooocus_weights_hits_total",
    "files",
    (),
    _PREPROCESSOR,
    "weights that were in the cache when they were asked for",
)
WEIGHTS_MISSES = _counter(
    "fooocus_weights_misses_total",
    "files",
    (),
    _PREPROCESSOR,
    "weights that were fetched, or whose server was asked anew",
)
WEIGHTS_EVICTIONS = _counter(
    "fooocus_weights_evictions_total",
    "files",
    (),
    _PREPROCESSOR,
    "files that left the cache for others: where they come back soon, raise `weights.cache_bytes`",
)

# --- fal's, by its names and labels: all gauges, `application` is an app (`fal-ai/fooocus`) ---

FAL_RUNNERS = _gauge(
    "fal_app_runners",
    "replicas",
    ("application", "state", "machine_type"),
    _DISPATCHER,
    "Diffusers, which all apps share; `state` is `idle`, `running` or `pending`, `machine_type` the device",
)
FAL_QUEUE = _gauge(
    "fal_app_queue_size",
    "requests",
    ("application",),
    _DISPATCHER,
    "requests that wait",
)
FAL_CONCURRENT = _gauge(
    "fal_app_concurrent_requests",
    "requests",
    ("application",),
    _DISPATCHER,
    "requests that are held",
)
FAL_COMPLETED = _gauge(
    "fal_app_requests_completed",
    "requests",
    ("application", "method", "status"),
    _DISPATCHER,
    "requests that ended in the last minute; `method` is always `POST`, `status` the answer's",
)
FAL_RECEIVED = _gauge(
    "fal_app_requests_received",
    "requests",
    ("application", "method"),
    _DISPATCHER,
    "requests that came in the last minute",
)
FAL_LATENCY = _gauge(
    "fal_app_request_latency",
    "requests",
    ("application", "le"),
    _DISPATCHER,
    "of the former: that took at most `le` seconds",
)

METRICS: Sequence[Metric] = tuple(value for value in tuple(globals().values()) if isinstance(value, Metric))
"""All of them, in the order of this file."""
