"""The services of a test session: one on the one Ray cluster of its process, and one in processes of its own, with
keys. Ray is imported only when a test asks for it.
"""

import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.detector import DETECTOR

if TYPE_CHECKING:
    from tests.kills.service import Served

ROOT = Path(__file__).parents[1]
READY_TIMEOUT_S = 120.0
LEASE_S = 2.0  # of the service that may be killed

# Ray reads these when it is imported, and its workers inherit them.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


def free_port() -> int:
    """A port above 20000 (workers of Ray take those below) that nobody listens on."""
    for port in range(20_000 + os.getpid() * 101 % 10_000, 32_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Ray cluster with Serve started; its HTTP port."""
    import ray
    from ray import serve

    port = free_port()
    ray.init(
        address="local",
        num_cpus=8,
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
        logging_level=logging.WARNING,
        configure_logging=False,
        namespace="serve",
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    yield port
    serve.shutdown()
    ray.shutdown()


@pytest.fixture(scope="session")
def family_that_sees_faces(pocket_family_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pocket family with a face detector, where tests find one, which it does not ship with."""
    if not DETECTOR.is_file():
        return pocket_family_folder
    folder = tmp_path_factory.mktemp("families") / "pocket"
    shutil.copytree(pocket_family_folder, folder)
    shutil.copy(DETECTOR, folder)
    described = json.loads((folder / "family.json").read_text())
    described["parts"]["face_detector"] = DETECTOR.name
    (folder / "family.json").write_text(json.dumps(described))
    return folder


@pytest.fixture(scope="session")
def service(cluster: int, family_that_sees_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the whole service on the pocket family."""
    import httpx2
    from ray import serve

    from deployments.app import build_app
    from deployments.settings import AppSettings

    settings = AppSettings.model_validate(
        {
            "gateway": {"data_dir": tmp_path_factory.mktemp("data"), "allow_loopback_urls": True},
            "drawing": {"family": family_that_sees_faces, "threads": 2},
        }
    )
    logs = {"encoding": "JSON", "log_level": "INFO"}
    serve.run(build_app(settings), name="service", route_prefix="/", logging_config=logs)
    address = f"http://127.0.0.1:{cluster}"
    end = time.monotonic() + READY_TIMEOUT_S
    while httpx2.get(f"{address}/ready").status_code != 200:
        assert time.monotonic() < end, "the service does not become ready"
        time.sleep(0.2)
    return address


@pytest.fixture(scope="session")
def lasting(tmp_path_factory: pytest.TempPathFactory, pocket_family_folder: Path) -> "Iterator[Served]":
    """A service that asks for keys and keeps files to them, with short leases, in processes that may be killed. Its
    engine draws nothing and can be held."""
    from tests.kills.service import Served

    served = Served.start(
        tmp_path_factory.mktemp("keyed"),
        free_port(),
        "fake",
        pocket_family_folder,
        gateway={"keys": "required", "files_access": "key", "lease_s": LEASE_S},
        limits={"stop_grace_s": 1},
    )
    yield served
    served.stop()


def kill_replicas(app: str, deployment: str) -> None:
    """End the processes of a deployment's replicas, as a crash would."""
    import ray
    from ray.util import list_named_actors

    for actor in list_named_actors(all_namespaces=True):
        if f"{app}#{deployment}#" in actor["name"]:
            ray.kill(ray.get_actor(actor["name"], namespace=actor["namespace"]))
