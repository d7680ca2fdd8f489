"""What Serve's processes have logged on all machines: the folders that a collector of logs would read."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.machines.staged import Machines

DEPLOYMENTS = frozenset(
    ("Gateway", "Dispatcher", "Preprocessor", "PromptExpander", "Diffuser", "SafetyChecker", "Postprocessor")
)

_SCALED = re.compile(r"scaling Deployment\(name='Diffuser'.*? from (\d+) to (\d+) replicas")


@dataclass(frozen=True)
class Line:
    """One of a replica's log. told: its fields."""

    node: str
    deployment: str
    replica: str
    told: Mapping[str, Any]

    @property
    def at(self) -> float:
        """Seconds since 1970."""
        return float(self.told["timestamp_ns"]) / 1e9


@dataclass(frozen=True)
class Drawing:
    """What a replica has done with one request, from its call to its end, in seconds since 1970."""

    replica: str
    request_id: str
    began: float
    ended: float


def lines(machines: Machines, deployment: str = "") -> Iterator[Line]:
    """Of all replicas that there were, or those of one deployment."""
    for node in machines.nodes:
        for file in sorted((node.logs / "serve").glob(f"replica_*_{deployment or '*'}_*.log*")):
            _, _, named, replica = file.name.partition(".")[0].split("_")  # of the application, which has no `_`
            for text in file.read_text(errors="replace").splitlines():
                if text.startswith("{"):  # what a library prints is no line of ours
                    yield Line(node.name, named, replica, json.loads(text))


def targets(machines: Machines) -> list[tuple[float, int]]:
    """When Serve's controller has wanted how many Diffusers, by its own clock: seconds since 1970."""
    found = []
    for file in sorted((machines.head.logs / "serve").glob("controller_*.log*")):
        for text in file.read_text(errors="replace").splitlines():
            if text.startswith("{") and (scaled := _SCALED.search(text)):
                found.append((float(json.loads(text)["timestamp_ns"]) / 1e9, int(scaled[2])))
    return sorted(found)


def tellers(machines: Machines, request_id: str) -> frozenset[str]:
    """The deployments in whose logs it stands."""
    return frozenset(line.deployment for line in lines(machines) if line.told.get("request_id") == request_id)


def drawings(machines: Machines) -> list[Drawing]:
    """All that replicas of the Diffuser have drawn."""
    return [
        Drawing(line.replica, line.told["request_id"], line.at - float(line.told["seconds"]), line.at)
        for line in lines(machines, "Diffuser")
        if line.told.get("transition") == "draw"
    ]


def preparations_s(machines: Machines) -> list[float]:
    """The seconds that each took at the Preprocessor."""
    told = (line.told for line in lines(machines, "Preprocessor"))
    return [float(one["seconds"]) for one in told if one.get("transition") == "prepare"]
