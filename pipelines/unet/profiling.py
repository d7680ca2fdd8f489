"""Profiling: finds by measuring how many rows a UNet call of a size should hold, and remembers it between starts."""

import hashlib
import json
import logging
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from pipelines.conditioning import Conditioning
from pipelines.device import Device
from pipelines.memory.plan import MemoryPlan
from pipelines.memory.residency import RESIDENT, Residency
from pipelines.memory.row_limits import out_of_memory
from pipelines.spec import Size
from pipelines.unet.gathering import Gatherer, Sample
from pipelines.unet.row_caps import RowCaps
from pipelines.unet.rows import Row, RowContext
from pipelines.unet.runner import UNetRunner

GAIN = 0.05  # less time saved per row than this, and more rows only make every job in the call wait longer
REPEATS = 3
TOKENS = 77
FACTOR = 8  # pixels of the picture to one of the latent
CHANNELS = 4

log = logging.getLogger("fooocus.engine")

Measure = Callable[[Size, int], float]
"""Seconds of a call with that many rows of a size. May raise what the device raises when its memory is full."""


def row_caps(
    unet: UNet2DConditionModel,
    device: Device,
    rows: int,
    sizes: Iterable[Size],
    remembered: Path | None,
    plan: MemoryPlan | None = None,
    residency: Residency = RESIDENT,
) -> RowCaps:
    """The caps for a UNet, of at most `rows`. device: where it runs, to which `residency` brings it. remembered: the
    folder of earlier findings, which `plan` does not change: it bounds them."""
    sizes = tuple(sizes)
    if not sizes:
        return RowCaps(rows, plan=plan)
    file = remembered / f"rows-{_fingerprint(unet, device.device, rows, sizes)}.json" if remembered else None
    if file is not None and file.is_file():
        return RowCaps(rows, tuple((pixels, cap) for pixels, cap in json.loads(file.read_text())), plan)
    caps = measured_caps(rows, sizes, lambda size, rows: _seconds(unet, device, residency, size, rows))
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(".new")
        aside.write_text(json.dumps(caps.measured))
        aside.replace(file)
    return replace(caps, plan=plan)


def measured_caps(rows: int, sizes: Iterable[Size], measure: Measure) -> RowCaps:
    """Double the rows of a call as long as that saves time per row and fits into memory, at most to `rows`."""
    found = []
    for size in sizes:
        best, best_seconds = 1, _tried(measure, size, 1)
        tried = 2
        while tried <= rows and best_seconds is not None:
            seconds = _tried(measure, size, tried)
            if seconds is None or seconds / tried > best_seconds / best * (1 - GAIN):
                break
            best, best_seconds = tried, seconds
            tried *= 2
        log.info("%d x %d: up to %d rows a call", size.width, size.height, best)
        found.append((size.width * size.height // FACTOR**2, best))
    return RowCaps(rows, tuple(sorted(found)))


def _tried(measure: Measure, size: Size, rows: int) -> float | None:
    try:
        measure(size, rows)  # the first call of a shape chooses kernels, or compiles
        return statistics.median(measure(size, rows) for _ in range(REPEATS))
    except Exception as fault:
        if not out_of_memory(fault):
            raise
        torch.cuda.empty_cache()
        return None


def _seconds(unet: UNet2DConditionModel, device: Device, residency: Residency, size: Size, rows: int) -> float:
    runner, gatherer = UNetRunner(RowContext(), residency=residency), Gatherer(device)
    sample = _sample(unet, device.device, size)
    began = time.perf_counter()
    with torch.inference_mode():
        runner.run(gatherer.gather(unet, [sample] * rows)).sum().item()  # the item waits for the device
    return time.perf_counter() - began


def _sample(unet: UNet2DConditionModel, device: torch.device, size: Size) -> Sample:
    config = unet.config
    pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    prompt = Conditioning(
        torch.zeros(TOKENS, config["cross_attention_dim"], device=device), torch.zeros(pooled, device=device)
    )
    sides = torch.tensor([size.height, size.width, 0, 0, size.height, size.width], dtype=torch.float32, device=device)
    x = torch.zeros(CHANNELS, size.height // FACTOR, size.width // FACTOR, device=device)
    return Sample(x, 1.0, 500, Row(prompt, sides))


def _fingerprint(unet: UNet2DConditionModel, device: torch.device, rows: int, sizes: tuple[Size, ...]) -> str:
    """What the findings depend on."""
    told = [
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu-{torch.get_num_threads()}",
        str(unet.conv_in.weight.dtype),
        torch.__version__,
        json.dumps(dict(unet.config), sort_keys=True, default=str),
        str(rows),
        str([(size.width, size.height) for size in sizes]),
    ]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
