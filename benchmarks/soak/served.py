"""The service as `make serve` starts it, in processes of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import torch
import yaml

from benchmarks.lora_files import write_lora
from models.pocket.write import write_family
from pipelines.weights.family import load_family

CONFIG = Path("serve_config.local.yaml")
FAMILY = Path(".cache/pocket")
PORT = 21_800
READY_S, STOP_S = 600.0, 90.0
# Ray's start on a machine that is busy with other work, and its workers not last of all there
PATIENCE: Mapping[str, str] = MappingProxyType(
    {
        "RAY_agent_register_timeout_ms": "90000",
        "RAY_raylet_start_wait_time_s": "120",
        "RAY_worker_niceness": "0",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    }
)
# so that within the first minutes as much is cleared up as comes
EXPIRE_S, KEEP_S, SWEEP_S = 120, 180, 20
VARIANTS_MB = 256  # and that merged weights are let go of for others
LORAS: Mapping[str, tuple[int, tuple[str, ...]]] = MappingProxyType(
    {
        f"soak_{number}.safetensors": (rank, ("to_k", "to_v") if number % 2 else ("to_q", "to_out.0"))
        for number, rank in enumerate((4, 8, 16, 4, 8, 16, 4, 8))
    }
)
"""Ranks and layers of the LoRAs that clients change between."""


@dataclass(frozen=True)
class Served:
    """Where it answers, its first process, and its folder of data."""

    address: str
    process: psutil.Process
    data: Path


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """It runs, with all that it writes in `folder`, and is stopped afterwards as Ctrl-C does it."""
    write_family(FAMILY)
    loras, data = folder / "loras", folder / "var"
    loras.mkdir()
    family = load_family(FAMILY, torch.device("cpu"), torch.float32)
    for seed, (name, (rank, layers)) in enumerate(LORAS.items()):
        write_lora(loras / name, family, rank, seed, layers)
    config, log = folder / "config.yaml", folder / "serve.log"
    config.write_text(yaml.safe_dump(_configured(data, loras)), encoding="utf-8")
    command = [sys.executable, "-m", "deployments.serve_local", "--config", str(config), "--port", str(PORT)]
    with log.open("w") as output:
        environment = {**os.environ, **PATIENCE}
        started = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)  # noqa: S603
    try:
        _wait_until_ready(started, log)
        yield Served(f"http://127.0.0.1:{PORT}", psutil.Process(started.pid), data)
    finally:
        started.terminate()
        started.wait(STOP_S)


def _wait_until_ready(started: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + READY_S
    while "is ready on" not in log.read_text():
        if started.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the service does not start: {log.read_text()}")
        time.sleep(0.5)


def _configured(data: Path, loras: Path) -> Any:
    """The embedded default, but that files and requests are soon over and little is kept."""
    content = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    application = content["applications"][0]
    application["args"]["gateway"]["data_dir"] = str(data)
    application["args"]["drawing"] |= {
        "family": str(FAMILY.absolute()),
        "loras_folder": str(loras),
        "variant_budget_mb": VARIANTS_MB,
    }
    limits = {
        "Gateway": {"outputs_expire_s": EXPIRE_S, "uploads_expire_s": EXPIRE_S},
        "Dispatcher": {"sweep_s": SWEEP_S, "keep_requests_s": KEEP_S},
    }
    for deployment in application["deployments"]:
        if (given := limits.get(deployment["name"])) is not None:
            deployment["user_config"] = deployment.get("user_config", {}) | given
    return content
