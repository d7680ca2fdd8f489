"""The nodes of the cluster: what they have, and where they offer their metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray


@dataclass(frozen=True, slots=True)
class Node:
    """One that lives. resources: all that it has. metrics_port: where it offers the metrics of all that runs on it."""

    id: str
    address: str
    resources: Mapping[str, float]
    labels: Mapping[str, str]
    metrics_port: int

    @property
    def metrics(self) -> str:
        """The address of these metrics, in Prometheus' form."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.metrics_port}/metrics"


def living_nodes() -> list[Node]:
    """All of the cluster, by what Ray tells."""
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [
        Node(
            node["NodeID"],
            node["NodeManagerAddress"],
            node.get("Resources") or {},
            node.get("Labels") or {},
            node["MetricsExportPort"],
        )
        for node in found
        if node["Alive"]
    ]
