"""A Ray of our own with the service, the chain and the bare endpoint side by side."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2

from benchmarks.serving.statements import FOLDER, statements
from benchmarks.serving.usage import Usage

CONFIG = Path("serve_config.local.yaml")
FAMILY = Path(".cache/pocket")
PORT = 21_750
READY_S = 120.0
SERVICE, CHAIN, BARE = "service", "chain", "bare"


@dataclass(frozen=True)
class Cluster:
    """Where it answers, and its processes. statements: executed on the ledger until now."""

    address: str
    usage: Usage
    statements: Callable[[], int]


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Everything deployed and ready, with the settings of `serve_config.local.yaml` and an engine that costs nothing.

    Ray must not have been imported before.
    """
    from deployments.own_ray import own_ray, prepare_environment
    from deployments.starting import Starting

    prepare_environment()
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "statements"
        counts.mkdir()
        os.environ |= {FOLDER: str(counts), "PYTHONPATH": os.getcwd()}
        with own_ray(Starting()):
            _deploy(Path(folder))
            address = f"http://127.0.0.1:{PORT}"
            _wait_until_ready(address)
            yield Cluster(address, Usage(), partial(statements, counts))


def _deploy(folder: Path) -> None:
    from ray import serve

    from benchmarks.serving import counted
    from benchmarks.serving.chain import build_bare, build_chain
    from deployments import app
    from deployments.config_file import read
    from deployments.diffuser import Draws

    def drawer_of(_: object) -> Draws:
        from benchmarks.blank import BlankDrawer

        return BlankDrawer(0.0)

    # what the app binds its deployments to
    for name, ours in (("drawer_of", drawer_of), ("Gateway", counted.Gateway), ("Dispatcher", counted.Dispatcher)):
        setattr(app, name, ours)
    config = read(CONFIG)
    settings, placed = config.settings, config.options
    settings = settings.model_copy(
        update={
            "gateway": settings.gateway.model_copy(update={"data_dir": folder / "var"}),
            "drawing": settings.drawing.model_copy(update={"family": FAMILY.absolute()}),
        }
    )
    options = config.serve.http_options.model_dump() | {"host": "127.0.0.1", "port": PORT}
    logs = config.serve.logging_config
    serve.start(proxy_location=str(config.serve.proxy_location.value), http_options=options, logging_config=logs)
    serve.run(build_bare(placed), name=BARE, route_prefix="/bare", logging_config=logs)
    serve.run(build_chain(placed, folder / "pictures"), name=CHAIN, route_prefix="/chain", logging_config=logs)
    serve.run(app.place_app(settings, placed), name=SERVICE, route_prefix="/", logging_config=logs)


def _wait_until_ready(address: str) -> None:
    end = time.monotonic() + READY_S
    with httpx2.Client(base_url=address, timeout=10, trust_env=False) as client:
        while client.get("/ready").status_code != 200:
            if time.monotonic() > end:
                raise TimeoutError("the service does not become ready")
            time.sleep(0.2)
