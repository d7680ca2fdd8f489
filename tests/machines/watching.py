"""What a cluster does while it is used, written down twice a second."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psycopg

from tests.machines.staged import Machines

EVERY_S = 0.5


@dataclass(frozen=True)
class Moment:
    """at: seconds since 1970. target, running: replicas of the Diffuser, as Serve says. queued, held: requests."""

    at: float
    target: int
    running: int
    queued: int
    held: int


@dataclass
class Watched:
    moments: list[Moment] = field(default_factory=list)

    def most(self) -> int:
        """The most replicas that ran."""
        return max((moment.running for moment in self.moments), default=0)

    def longest_idling_s(self) -> float:
        """For how long at most a request waited while a replica had nothing to draw."""
        longest = since = 0.0
        for moment in self.moments:
            idles = moment.queued > 0 and moment.held < moment.running
            since = (since or moment.at) if idles else 0.0
            longest = max(longest, moment.at - since if since else 0.0)
        return longest

    def write(self, machines: Machines, file: Path, names: Sequence[str]) -> None:
        """As JSON lines: the costs of the engine, each request of these names, and each moment; for a simulation of
        the same to be compared with."""
        found = machines.rows("id, endpoint, created_at, started_at, finished_at, input", "id = ANY(%s)", [[*names]])
        with file.open("w") as lines:
            for name, endpoint, arrived, started, finished, given in found:
                times = {"arrived": arrived, "started": started, "finished": finished}
                told = {"id": name, "endpoint": endpoint, "input": json.loads(given)}
                told |= {key: value.timestamp() for key, value in times.items()}
                print(json.dumps({"kind": "request", **told}), file=lines)
            for moment in self.moments:
                print(json.dumps({"kind": "moment", **asdict(moment)}), file=lines)


@contextmanager
def watching(machines: Machines) -> Iterator[Watched]:
    watched, ended = Watched(), threading.Event()

    def watch() -> None:
        with psycopg.connect(machines.ledger, autocommit=True) as ledger:
            while not ended.wait(EVERY_S):
                with suppress(AssertionError):  # of a head that does not answer just now
                    watched.moments.append(_moment(machines, ledger))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield watched
    finally:
        ended.set()
        thread.join(30)


def _moment(machines: Machines, ledger: "psycopg.Connection[tuple[int, ...]]") -> Moment:
    listed = machines.status().get("deployments", {}).get("Diffuser", {})
    running = sum(one["state"] == "RUNNING" for one in listed.get("replicas", []))
    counts = ledger.execute(
        "SELECT count(*) FILTER (WHERE state = 'queued'), count(*) FILTER (WHERE state NOT IN ('queued', 'done')) "
        "FROM request"
    ).fetchone()
    queued, held = counts or (0, 0)
    return Moment(time.time(), listed.get("target_num_replicas") or 0, running, queued, held)
