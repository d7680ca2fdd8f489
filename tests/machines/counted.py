"""What the replicas count, read where a Prometheus would read it: at each node's port of metrics."""

import re
from collections import defaultdict
from collections.abc import Mapping

import httpx2

from tests.machines.node import METRICS_PORT
from tests.machines.staged import Machines

_LINE = re.compile(r'^ray_fooocus_unet_(calls|rows)_total\{.*?replica="([^"]+)".*?\} (\S+)$')


def calls_of_replicas(machines: Machines) -> Mapping[str, tuple[float, float]]:
    """UNet calls and the rows of them, by replica of the Diffuser."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for node in machines.nodes:
        if node.runs:
            text = httpx2.get(f"http://{node.address}:{METRICS_PORT}/metrics", timeout=10, trust_env=False).text
            for kind, replica, number in (match.groups() for match in map(_LINE.match, text.splitlines()) if match):
                found[replica][kind] = float(number)
    return {replica: (counts.get("calls", 0.0), counts.get("rows", 0.0)) for replica, counts in found.items()}
