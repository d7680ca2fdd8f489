"""What a cluster does while it is used, written down every second."""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from tests.machines.config import options_of
from tests.machines.logs import Drawing, drawings, preparations_s, targets
from tests.machines.staged import Machines

EVERY_S = 1.0  # each look costs the controller some of a core


@dataclass(frozen=True)
class Moment:
    """at: seconds since 1970. target: how many replicas of the Diffuser Serve wants. running: their names. queued,
    held: requests."""

    at: float
    target: int
    running: frozenset[str]
    queued: int
    held: int


@dataclass
class Watched:
    """strangers: what else than Diffusers has run where GPUs are, by deployment and node."""

    moments: list[Moment] = field(default_factory=list)
    strangers: set[tuple[str, str]] = field(default_factory=set)

    @property
    def running(self) -> int:
        """How many replicas ran at last; -1 where nobody has looked."""
        return len(self.moments[-1].running) if self.moments else -1

    def most(self) -> int:
        """The most replicas that ran."""
        return max((len(moment.running) for moment in self.moments), default=0)

    def lives(self) -> dict[str, tuple[float, float]]:
        """When each replica was first and last seen running, in the order of their starts."""
        found: dict[str, tuple[float, float]] = {}
        for moment in self.moments:
            for name in moment.running:
                found[name] = found.get(name, (moment.at,))[0], moment.at
        return found


def wanted_at(machines: Machines, watched: Watched, replicas: int) -> float:
    """When Serve first wanted so many, of the time that was watched."""
    since = watched.moments[0].at
    return next(at for at, number in targets(machines) if at > since and number >= replicas)


def starts_s(machines: Machines, watched: Watched) -> list[float]:
    """What each start took, from when it was wanted; none for those that ran before."""
    before = len(watched.moments[0].running)
    firsts = sorted(first for first, _ in watched.lives().values())[before:]
    return [round(at - wanted_at(machines, watched, number), 1) for number, at in enumerate(firsts, start=before + 1)]


def longest_beside_idle_s(
    lives: Mapping[str, tuple[float, float]], drawn: Sequence[Drawing], waits: Sequence[tuple[float, float]]
) -> float:
    """For how long at most one request waited while one replica drew nothing."""
    return max(
        (
            min(ended, until) - max(began, since)
            for replica, life in lives.items()
            for began, ended in _idle(life, [one for one in drawn if one.replica == replica])
            for since, until in waits
        ),
        default=0.0,
    )


def _idle(life: tuple[float, float], drawn: Sequence[Drawing]) -> Iterator[tuple[float, float]]:
    """From when to when a replica had nothing."""
    free, last = life
    for one in sorted(drawn, key=lambda one: one.began):
        if one.began > free:
            yield free, min(one.began, last)
        free = max(free, one.ended)
    if free < last:
        yield free, last


def waits_of(machines: Machines, names: Sequence[str]) -> list[tuple[float, float]]:
    """From when to when each of these requests waited for its first step."""
    found = machines.rows("created_at, started_at", "id = ANY(%s) AND started_at IS NOT NULL", [[*names]])
    return [(came.timestamp(), began.timestamp()) for came, began in found]


def drawn_of(machines: Machines, names: Sequence[str]) -> list[Drawing]:
    return [one for one in drawings(machines) if one.request_id in {*names}]


def write(
    machines: Machines,
    watched: Watched,
    file: Path,
    names: Sequence[str],
    content: Mapping[str, Any],
    ms_by_rows: Mapping[float, float],
) -> None:
    """The requests of these names as JSON lines, and before them what the service was, as `benchmarks.fleet.comparing`
    reads them. content: of the config file; ms_by_rows: of a call of the engine."""
    bounds = options_of(content, "Diffuser")["autoscaling_config"]
    said = {
        "ms_by_rows": {f"{rows:g}": ms for rows, ms in ms_by_rows.items()},
        "starts_s": starts_s(machines, watched),
        "rules": options_of(content, "Dispatcher")["user_config"]["scaling"],
        "least": bounds["min_replicas"],
        "most": bounds["max_replicas"],
        "replicas": len(watched.moments[0].running),
        "prepare_s": round(median(preparations_s(machines)), 3),
    }
    found = machines.rows(
        "created_at, started_at, input, row_steps, priority", "id = ANY(%s) ORDER BY created_at", [[*names]]
    )
    began = found[0][0]
    with file.open("w") as lines:
        print(json.dumps(said), file=lines)
        for came, started, given, row_steps, priority in found:
            steps = int(json.loads(given)["num_inference_steps"])
            told = {
                "at": round((came - began).total_seconds(), 3),
                "began_at": round((started - began).total_seconds(), 3),
                "steps": steps,
                "rows": round(row_steps / steps),
                "row_steps": row_steps,
                "priority": priority,
            }
            print(json.dumps(told), file=lines)


@contextmanager
def watching(machines: Machines) -> Iterator[Watched]:
    watched, ended = Watched(), threading.Event()
    ours = {node.address for node in machines.nodes if node.gpus}

    def watch() -> None:
        with psycopg.connect(machines.ledger, autocommit=True) as ledger:
            while not ended.wait(EVERY_S):
                with suppress(AssertionError):  # of a head that does not answer just now
                    _look(machines, ledger, watched, ours)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield watched
    finally:
        ended.set()
        thread.join(30)


def _look(
    machines: Machines, ledger: "psycopg.Connection[tuple[int, ...]]", watched: Watched, with_gpus: set[str]
) -> None:
    listed: dict[str, Any] = machines.status().get("deployments", {})
    for name, told in listed.items():
        here = {one.get("node_ip") for one in told["replicas"]} & with_gpus
        watched.strangers |= {(name, address) for address in here if name != "Diffuser"}
    diffuser = listed.get("Diffuser", {})
    running = (one["replica_id"] for one in diffuser.get("replicas", []) if one["state"] == "RUNNING")
    counts = ledger.execute(
        "SELECT count(*) FILTER (WHERE state = 'queued'), count(*) FILTER (WHERE state NOT IN ('queued', 'done')) "
        "FROM request"
    ).fetchone()
    queued, held = counts or (0, 0)
    target = diffuser.get("target_num_replicas") or 0
    watched.moments.append(Moment(time.time(), target, frozenset(running), queued, held))
