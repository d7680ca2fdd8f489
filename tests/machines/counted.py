"""What the replicas count, read where a Prometheus would read it: at each node's port of metrics."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import httpx2

from tests.machines.node import METRICS_PORT
from tests.machines.staged import Machines

_LINE = re.compile(r"^ray_fooocus_(unet_calls|unet_rows|bases)_total\{(.*)\} (\S+)$")
_LABEL = re.compile(r'(replica|cache)="([^"]+)"')


@dataclass(frozen=True)
class Counts:
    """Of a replica of the Diffuser: UNet calls and the rows of them, and for how many requests the base was at hand or
    had to be built."""

    calls: float
    rows: float
    found: float
    built: float


def counts_of_replicas(machines: Machines) -> Mapping[str, Counts]:
    """By the names of those that have counted something."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for node in machines.nodes:
        if node.runs and node.gpus:
            text = httpx2.get(f"http://{node.address}:{METRICS_PORT}/metrics", timeout=10, trust_env=False).text
            for kind, labels, number in (match.groups() for match in map(_LINE.match, text.splitlines()) if match):
                told = dict(_LABEL.findall(labels))
                found[told["replica"]][kind + told.get("cache", "")] = float(number)
    return {
        replica: Counts(counts["unet_calls"], counts["unet_rows"], counts["baseshit"], counts["basesmiss"])
        for replica, counts in found.items()
    }
