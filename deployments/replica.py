"""What a replica finds out about itself and round it: what it books, the options of its deployment, the cluster."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import ray
from ray import serve
from ray._private.worker import global_worker
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException

from deployments.nodes import living_nodes
from deployments.placement import DEFAULTS

Opened = TypeVar("Opened")

MOST_NODES = 64  # whose addresses are told


@dataclass(frozen=True, slots=True)
class Around:
    """What the cluster says. starting: replicas that are. metrics: where nodes offer theirs, in Prometheus' form."""

    starting: int = 0
    metrics: Sequence[str] = ()


def max_ongoing_requests(deployment: str) -> int:
    """Of the deployment of this replica, which Serve changes in place; its default where this is no replica."""
    return int(_option("max_ongoing_requests", DEFAULTS[deployment].max_ongoing_requests))


def shutdown_timeout_s(deployment: str) -> float:
    """Likewise its `graceful_shutdown_timeout_s`."""
    return float(_option("graceful_shutdown_timeout_s", DEFAULTS[deployment].graceful_shutdown_timeout_s))


def _option(name: str, default: float) -> float:
    try:
        # Serve offers a replica no other way to its own options
        found: float = getattr(serve.get_replica_context()._deployment_config, name)
    except RayServeException:
        return default
    return found


def starting(deployment: str) -> int:
    """How many replicas of a deployment of this application are being started, as Serve's controller has it; 0 where it
    does not say. Blocks."""
    if not ray.is_initialized():
        return 0
    try:
        if (controller := _get_global_client(raise_if_no_controller_running=False)) is None:
            return 0
        # `serve.status()` makes models of the same, which takes a third of a second of CPU
        application = controller.get_serve_details()["applications"][serve.get_replica_context().app_name]
        replicas = application["deployments"][deployment]["replicas"]
    except Exception:  # it is only told
        return 0
    return sum(each["state"] in ("STARTING", "RECOVERING") for each in replicas)


def metrics_addresses() -> list[str]:
    """Where the nodes of this cluster offer the metrics of all that runs on them; of many nodes some. Blocks."""
    if not ray.is_initialized():
        return []
    try:
        return sorted(node.metrics for node in living_nodes())[:MOST_NODES]
    except Exception:  # it is only told
        return []


def around(deployment: str) -> Around:
    """What the cluster says of a deployment of this application, and of its nodes. Blocks."""
    return Around(starting(deployment), metrics_addresses())


def identity(other: str) -> tuple[str, str]:
    """The service of this replica, which no other cluster's has, and the replica's own name in it, by which calls are
    routed to it. other: the name where this is no replica, and none of a service."""
    try:
        context = serve.get_replica_context()
    except RayServeException:
        return "", other
    worker: Any = global_worker  # whose class does not tell what it has in a cluster
    return f"{worker.gcs_client.cluster_id.hex()}/{context.app_name}", context.replica_id.unique_id


def open_on(setting: str, device: str, deployment: str, opener: Callable[[], Opened]) -> Opened:
    """What `opener` opens. Raises ValueError where it needs a GPU that this replica does not book: Ray hides that."""
    if device.startswith("cuda") and ray.is_initialized() and not ray.get_gpu_ids():
        raise ValueError(unbooked(setting, device, deployment))
    return opener()


def unbooked(setting: str, device: str, deployment: str) -> str:
    """That a deployment books no GPU for the device of a setting, and what to write."""
    return (
        f"{setting} is {device}, but a replica books no GPU: set num_gpus to 1 under ray_actor_options of "
        f"`- name: {deployment}`, or {setting} to cpu"
    )
