"""A program: the whole app, with a state of one machine, on several nodes, and what happened there as JSON.

Apart from the tests, for a process has one cluster, and theirs is of one node. The nodes are processes of this machine:
they share its disk, which the app does not know.
"""

import json
import logging
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from deployments.drain import leave
from deployments.placement import DEFAULTS
from tests.cluster import free_port
from tests.deployments.deployed import Deployed
from tests.deployments.fakes import wait_until

STORE_BYTES = 150 * 2**20
GROUP = "fooocus-serve/group"
BOUND = {"num_cpus": 0.1, "label_selector": {GROUP: "cpu"}}
ASKED = {"prompt": "a cube", "num_inference_steps": 1, "image_size": {"width": 256, "height": 256}, "seed": 1}
DRAIN_S = 150.0
GRACE_S = 200.0
PATIENCE_S = 120.0


class Nodes:
    """The cluster. Its head has no CPUs, and so no replica."""

    def __init__(self) -> None:
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False},
        )
        self.ids: dict[str, str] = {}

    def add(self, name: str, group: str, cpus: int, gpus: int = 0) -> None:
        node = self._cluster.add_node(
            num_cpus=cpus, num_gpus=gpus, object_store_memory=STORE_BYTES, labels={GROUP: group}
        )
        self.ids[name] = node.node_id

    @property
    def address(self) -> str:
        address: str = self._cluster.address
        return address

    def names(self, ids: set[str]) -> list[str]:
        return sorted(name for name, node in self.ids.items() if node in ids)

    def close(self) -> None:
        self._cluster.shutdown()


def where(deployed: Deployed, nodes: Nodes) -> Mapping[str, list[str]]:
    """The nodes of the replicas that run, by deployment."""
    return {name: nodes.names({*each.values()}) for name, each in deployed.places().items()}


@contextmanager
def asking(url: str) -> Iterator[list[int]]:
    """Sync runs one after another from a client of its own: the statuses of their answers."""
    over, statuses = threading.Event(), list[int]()

    def ask() -> None:
        with httpx2.Client(timeout=300, trust_env=False) as client:
            while not over.is_set():
                statuses.append(client.post(f"{url}/run/fal-ai/fast-fooocus-sdxl", json=ASKED).status_code)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield statuses
    finally:
        over.set()
        thread.join()


def failed(told: Any) -> bool:
    return told is not None and told["status"] == "DEPLOY_FAILED"


def message_of(name: str, part: str, told: list[str]) -> Callable[[Any], bool]:
    """Whether Serve says `part` of a deployment; then its message is in `told`."""

    def says(application: Any) -> bool:
        message = application["deployments"].get(name, {}).get("message", "")
        if part in message:
            told[:] = [message]
        return part in message

    return says


def bind(deployed: Deployed) -> None:
    """Everything to the first node, but the Diffuser, which goes where a GPU is."""
    for name in DEFAULTS:
        deployed.listed(name)["ray_actor_options"] = dict(BOUND)
    deployed.listed("Gateway")["ray_actor_options"] = {**BOUND, "num_cpus": 1}
    deployed.listed("Diffuser")["ray_actor_options"] = {"num_cpus": 0.1, "num_gpus": 1}


def rolling(nodes: Nodes, deployed: Deployed) -> dict[str, Any]:
    """The start, refused and then right, a changed bound, and a changed argument under requests."""
    told: dict[str, Any] = {}
    deployed.deploy(failed)
    told["refused"] = deployed.told()["message"]

    bind(deployed)
    for name in DEFAULTS:
        if name != "Dispatcher":
            deployed.listed(name)["max_surge_percent"] = 100
    deployed.deploy()
    told["where"] = where(deployed, nodes)

    deployed.listed("Diffuser")["autoscaling_config"] = {"min_replicas": 1, "max_replicas": 2}
    told["bound changed"] = [sorted(each) for each in deployed.deploy()]

    # as in the production file: a stopping gateway outlives its sync runs, and a stopping Diffuser what it draws
    for name in ("Gateway", "Diffuser"):
        deployed.listed(name)["graceful_shutdown_timeout_s"] = GRACE_S
    deployed.deploy()
    with asking(deployed.url) as statuses:
        wait_until(lambda: len(statuses) > 0, PATIENCE_S)
        deployed.args["output"] = {"jpeg_quality": 80}
        lost, new = deployed.deploy(lambda application: application["status"] == "RUNNING" and deployed.is_whole())
        after = len(statuses)
        wait_until(lambda: len(statuses) > after + 1, PATIENCE_S)
    return {**told, "lost": sorted(lost), "new": sorted(new), "statuses": statuses}


def leaving(nodes: Nodes, deployed: Deployed) -> dict[str, Any]:
    """A node that is drained under requests, and one that comes later."""
    told: dict[str, Any] = {}
    bind(deployed)
    deployed.deploy()
    nodes.add("other gpu", "gpu", 8, gpus=1)
    with asking(deployed.url) as statuses:
        wait_until(lambda: len(statuses) > 0, PATIENCE_S)
        task = ray.remote(num_cpus=0)(leave)
        here = NodeAffinitySchedulingStrategy(node_id=nodes.ids["gpu"], soft=False)
        told["drained"] = ray.get(task.options(scheduling_strategy=here).remote(DRAIN_S))
        told["where after"] = where(deployed, nodes)
        after = len(statuses)
        wait_until(lambda: len(statuses) > after + 1, PATIENCE_S)
    told["statuses"] = statuses

    nodes.add("late", "cpu", 8)
    deployed.listed("Gateway")["num_replicas"] = 4  # more than the first node holds
    message: list[str] = []
    deployed.deploy(message_of("Gateway", "belongs to one machine", message))
    return {**told, "late": message[0], "where at last": where(deployed, nodes)}


STORIES: Mapping[str, Callable[[Nodes, Deployed], dict[str, Any]]] = {"rolling": rolling, "leaving": leaving}


def main() -> None:
    nodes = Nodes()
    nodes.add("cpu", "cpu", 4)
    nodes.add("gpu", "gpu", 8, gpus=2)  # one more than is used, for what rolls
    ray.init(address=nodes.address, log_to_driver=False, namespace="serve", logging_level=logging.WARNING)
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        with tempfile.TemporaryDirectory() as folder:
            deployed = Deployed(port, Path(folder), Path(sys.argv[2]))
            print(json.dumps(STORIES[sys.argv[1]](nodes, deployed)))
    finally:
        serve.shutdown()
        ray.shutdown()
        nodes.close()


if __name__ == "__main__":
    main()
