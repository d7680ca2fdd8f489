"""The queue under load: a thousand requests and fifty subscribers at once, beside a bare endpoint of Ray Serve.

What is compared is the cost of our answers: submit and status against an endpoint that does nothing, on the same
cluster in the same seconds. The engine draws nothing.
"""

import argparse
import asyncio
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fal_client
import httpx2
import torch
from fal_client import client as fal_constants

from benchmarks.report import Cell, Report, Table, machine
from models.pocket.write import write_family

FAMILY = Path(".cache/pocket")
APP = "fal-ai/fast-fooocus-sdxl"
INPUT: Mapping[str, Any] = {"prompt": "a cube", "num_inference_steps": 4, "enable_safety_checker": False}
PORT = 21_700
SUBMITTERS = 8
END_S = 900.0


@dataclass(frozen=True)
class Options:
    """requests: queued before the subscribers come. calls: of each kind while nothing else happens."""

    requests: int
    subscribers: int
    calls: int
    draw_s: float
    out: Path
    command: str


def parse(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queueing", description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--subscribers", type=int, default=50)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--draw", type=float, default=0.05, help="seconds that each drawing takes")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args(arguments)
    command = shlex.join(["python", "-m", "benchmarks.queueing", *arguments])
    return Options(given.requests, given.subscribers, given.calls, given.draw, given.out, command)


@contextmanager
def cluster(draw_s: float) -> Iterator[str]:
    """A Ray of our own with the service and the bare endpoint; the address of both."""
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.getcwd()}
    import ray
    from ray import serve
    from ray.serve.schema import DeploymentSchema
    from starlette.requests import Request

    from benchmarks.blank import BlankDrawer
    from deployments import app
    from deployments.diffuser import Draws
    from deployments.placement import placed
    from deployments.settings import AppSettings

    def drawer_of(_: object) -> Draws:
        return BlankDrawer(draw_s)

    setattr(app, "drawer_of", drawer_of)  # noqa: B010 (what the app binds its Diffuser to)

    class Bare:
        async def __call__(self, _: Request) -> dict[str, str]:
            return {"status": "IN_QUEUE"}

    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False, namespace="serve")
    try:
        with tempfile.TemporaryDirectory() as folder:
            settings = AppSettings.model_validate(
                {"gateway": {"data_dir": folder}, "drawing": {"family": FAMILY, "rows": 32}}
            )
            options = placed([DeploymentSchema(name="Dispatcher", user_config={"capacity": 32})])
            serve.start(http_options={"host": "127.0.0.1", "port": PORT})
            bare = serve.deployment(ray_actor_options={"num_cpus": 0.1})(Bare)
            serve.run(bare.bind(), name="bare", route_prefix="/bare")
            serve.run(app.place_app(settings, options), name="service", route_prefix="/")
            yield f"http://127.0.0.1:{PORT}"
            serve.shutdown()  # type: ignore[no-untyped-call]
    finally:
        ray.shutdown()


class Calls:
    """One caller's calls, in seconds by what was called. Raises for any answer that is not what was asked for."""

    def __init__(self, address: str) -> None:
        self._client = httpx2.Client(base_url=address, timeout=60, trust_env=False)
        self._known = self.submit()

    def bare(self) -> float:
        return self._timed(lambda: self._client.get("/bare"))[0]

    def submit(self) -> str:
        answer = self._client.post(f"/queue/{APP}", json=dict(INPUT)).raise_for_status()
        return str(answer.json()["request_id"])

    def submitting(self) -> float:
        return self._timed(lambda: self._client.post(f"/queue/{APP}", json=dict(INPUT)))[0]

    def status(self) -> float:
        return self._timed(lambda: self._client.get(f"/queue/{APP}/requests/{self._known}/status"))[0]

    def depth(self) -> int:
        """How many requests are ahead of one that is submitted now."""
        answer = self._client.post(f"/queue/{APP}", json=dict(INPUT)).raise_for_status()
        return int(answer.json()["queue_position"])

    def close(self) -> None:
        self._client.close()

    def _timed(self, call: Callable[[], httpx2.Response]) -> tuple[float, httpx2.Response]:
        begun = time.perf_counter()
        answer = call()
        seconds = time.perf_counter() - begun
        answer.raise_for_status()
        return seconds, answer


def compared(calls: Calls, enough: Callable[[int], bool]) -> dict[str, list[float]]:
    """Seconds of each kind of call, in turn, until `enough` of them."""
    kinds = {"bare": calls.bare, "submit": calls.submitting, "status": calls.status}
    found: dict[str, list[float]] = {name: [] for name in kinds}
    number = 0
    while not enough(number):
        for name, call in kinds.items():
            found[name].append(call())
        number += 1
    return found


def rows(load: str, found: Mapping[str, Sequence[float]]) -> Iterator[dict[str, Cell]]:
    bare = quantiles(found["bare"])
    for name, seconds in found.items():
        p50, p95 = quantiles(seconds)
        yield {
            "load": load,
            "call": name,
            "calls": len(seconds),
            "p50 ms": p50 * 1000,
            "p95 ms": p95 * 1000,
            "p50 / bare": p50 / bare[0],
            "p95 / bare": p95 / bare[1],
        }


def quantiles(seconds: Sequence[float]) -> tuple[float, float]:
    """p50 and p95."""
    cuts = statistics.quantiles(seconds, n=20)
    return cuts[9], cuts[18]


async def subscribe(number: int) -> list[float | BaseException]:
    """Seconds that each of so many fal clients waited for its picture, all at once, or what it raised."""
    client = fal_client.AsyncClient(key="any:key")

    async def one() -> float:
        begun = time.perf_counter()
        await client.subscribe(APP, arguments=dict(INPUT))
        return time.perf_counter() - begun

    try:
        return await asyncio.gather(*(one() for _ in range(number)), return_exceptions=True)
    finally:
        await (await client._client).aclose()


def run(options: Options) -> bool:
    """Measure and write the report; whether everything was completed without an error."""
    write_family(FAMILY)
    with cluster(options.draw_s) as address:
        for name, path in [("QUEUE_URL_FORMAT", "queue/"), ("RUN_URL_FORMAT", "run/")]:
            setattr(fal_constants, name, f"{address}/{path}")
        calls = Calls(address)
        try:
            compared(calls, lambda number: number >= 20)  # whatever happens once only
            idle = compared(calls, lambda number: number >= options.calls)
            with ThreadPoolExecutor(SUBMITTERS + 1) as pool:
                begun = time.perf_counter()
                ids = list(pool.map(lambda _: calls.submit(), range(options.requests)))
                accepted_s = time.perf_counter() - begun
                deepest = calls.depth()
                waiting = pool.submit(asyncio.run, subscribe(options.subscribers))
                loaded = compared(calls, lambda number: number >= 20 and waiting.done())
                waited = waiting.result()
            total_s = time.perf_counter() - begun
        finally:
            calls.close()
        completed = _completed(address, ids)
    errors = [each for each in waited if isinstance(each, BaseException)]
    table = Table("Milliseconds of a call, and times a bare endpoint's in the same seconds")
    table.rows += [*rows("none", idle), *rows(f"{options.subscribers} subscribers", loaded)]
    facts: dict[str, Cell] = {
        **machine(torch.device("cpu")),
        "requests queued": options.requests,
        "of these completed": completed,
        "ahead when the subscribers came": deepest,
        "seconds to accept them": accepted_s,
        "seconds until all was drawn": total_s,
        "fal-client subscribers at once": options.subscribers,
        "of these with an error": len(errors),
        "longest wait of one, s": max((each for each in waited if isinstance(each, float)), default=None),
        "seconds of a drawing": options.draw_s,
    }
    report = Report("queueing", options.command, facts, (table,))
    report.write(options.out)
    print(report.markdown())
    for error in errors:
        print(repr(error), file=sys.stderr)
    return completed == options.requests and not errors


def _completed(address: str, ids: Sequence[str]) -> int:
    end, found = time.monotonic() + END_S, 0
    with httpx2.Client(base_url=address, timeout=60, trust_env=False) as client:
        for name in ids:
            while client.get(f"/queue/{APP}/requests/{name}/status").raise_for_status().status_code != 200:
                if time.monotonic() > end:
                    raise TimeoutError("requests are not completed")
                time.sleep(0.5)
            found += client.get(f"/queue/{APP}/requests/{name}").status_code == 200
    return found


def main(arguments: Sequence[str]) -> int:
    return 0 if run(parse(arguments)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
