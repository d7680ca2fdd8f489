"""What a LoRA by address costs before its first step, beside a plain download of the same file.

python -m benchmarks.lora_fetching FAMILY    (the folder of a family; .cache/pocket is what `make test` writes)
"""

import argparse
import asyncio
import queue
import secrets
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx2
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.report import Report, Table
from gateway.files.backends import LocalFiles
from gateway.images.fetch import Fetcher, FetchLimits
from gateway.weights.cache import WeightsCache
from gateway.weights.finder import WeightsFinder
from gateway.weights.settings import WeightsSettings
from pipelines.drawing import Drawer
from pipelines.events import Drawn, Step
from pipelines.inputs import FoundLora
from pipelines.preparing import prepare
from pipelines.settings import DrawingSettings
from pipelines.spec import Lora, Size, Spec
from pipelines.weights.header import parse_header

STYLE = "sd_xl_offset_example-lora_1.0.safetensors"
MB = 2**20


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server of a folder, in a process of its own."""
    ours, theirs = Pipe()
    server = get_context("spawn").Process(target=_serve, args=(str(folder), theirs), daemon=True)
    server.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        server.terminate()
        server.join()


def _serve(folder: str, told: Connection) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    told.send(server.server_address[1])
    server.serve_forever()


def plain_download(client: httpx2.Client, url: str, path: Path) -> float:
    """Seconds of streaming a file to a disk, as a script would."""
    began = time.perf_counter()
    with client.stream("GET", url) as response, path.open("wb") as file:
        for piece in response.iter_bytes(MB):
            file.write(piece)
    return time.perf_counter() - began


def finder(folder: Path) -> WeightsFinder:
    settings = WeightsSettings()
    cache = WeightsCache(folder / "cache", settings.cache_bytes, in_use_s=600)
    cache.open()
    fetcher = Fetcher(FetchLimits(timeout_s=300, allow_loopback=True, least_bytes_per_s=1024))
    return WeightsFinder(settings, cache, fetcher, LocalFiles(folder), parse_header)


def found(finds: WeightsFinder, url: str) -> tuple[float, Path]:
    """Seconds from an address to a checked file of the cache."""
    began = time.perf_counter()
    path = asyncio.run(finds.find(url, "", "LoRA"))
    return time.perf_counter() - began, path


def first_step(drawer: Drawer, path: Path, size: int) -> float:
    """Seconds from a file to the first step of a picture that is drawn with it."""
    side = Size(width=size, height=size)
    lora = Lora(source="", scale=1.0)
    spec = Spec(prompt="a red circle", size=side, seeds=(1,), steps=2, sampler="lcm", schedule="lcm", loras=(lora,))
    events: queue.Queue[Any] = queue.Queue()
    began, first = time.perf_counter(), 0.0
    drawer.submit("one", spec, prepare(spec, (), (FoundLora(lora, path),)), events.put)
    while isinstance(event := events.get(), Step):
        if event.step and not first:
            first = time.perf_counter() - began
    if not isinstance(event, Drawn):
        raise event
    return first


def measure(family: Path, repeats: int, size: int, large_mb: int) -> list[Table]:
    drawer = Drawer.open(DrawingSettings(family=family))
    with safe_open(family / "loras" / STYLE, framework="pt") as file:
        style = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    large = {"weight": torch.zeros(large_mb * MB, dtype=torch.uint8)}
    rows: dict[str, dict[str, list[float]]] = {}

    def note(what: str, name: str, seconds: float) -> None:
        rows.setdefault(what, {}).setdefault(name, []).append(seconds)

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "served").mkdir()
        first_step(drawer, family / "loras" / STYLE, size)  # what is built once
        with serving(folder / "served") as address, httpx2.Client() as client:
            for at in range(repeats):  # in turn, so that whatever else the machine does falls on all
                for what, tensors in (("style", style), (f"{large_mb} MB", large)):
                    name = f"{at}.safetensors"  # new each time, also by its content
                    save_file(tensors, folder / "served" / name, {"nonce": secrets.token_hex(8)})
                    url = f"{address}/{name}?{what.replace(' ', '')}"
                    finds = finder(folder)
                    plain_download(client, url, folder / "plain")  # which has the server read it
                    note(what, "plain download", plain_download(client, url, folder / "plain"))
                    new, path = found(finds, url)
                    note(what, "by address, new", new)
                    note(what, "by address, known", found(finds, url)[0])
                    if what == "style":
                        note(what, "by address, to the first step", new + first_step(drawer, path, size))
                        save_file(tensors, folder / "plain", {"nonce": secrets.token_hex(8)})
                        note(what, "of them the step and the merge", first_step(drawer, folder / "plain", size))
    drawer.close()
    table = Table("Milliseconds, median")
    for what, columns in rows.items():
        medians = {name: round(statistics.median(each) * 1000, 1) for name, each in columns.items()}
        table.rows.append({"file": what, **medians})
    return [table]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", type=Path)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--large-mb", type=int, default=256)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    tables = measure(given.family, given.repeats, given.size, given.large_mb)
    facts = {"repeats": given.repeats, "picture": f"{given.size} x {given.size}", "server": "http.server on loopback"}
    Report("lora_fetching", "python -m benchmarks.lora_fetching .cache/pocket", facts, tables).publish(given.out)


if __name__ == "__main__":
    main()
