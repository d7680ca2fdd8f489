"""SDXL at its full size with random weights: loaded from one fp16 file as the service loads it, and drawn with.

Measured in a process of its own: seconds, the highest anonymous memory (what is not a mapped file) above what the
process had before, beside the bytes of the parameters in the dtypes that they are loaded to, and the bytes that were
read from the disk, beside the file's. The file's pages are dropped from the system's cache before.
"""

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks.report import Cell, Report, Table, machine
from models.pocket.layout import stored_first_text, stored_second_text, stored_unet, stored_vae
from pipelines.catalogue import FILE
from pipelines.drawing import Drawer
from pipelines.events import Drawn, Event, Step
from pipelines.parts import CONFIGS
from pipelines.preparing import prepare
from pipelines.settings import DrawingSettings
from pipelines.spec import Size, Spec

CHECKPOINT = "sd_xl_random.safetensors"
SIDE, STEPS = 512, 4
DEVIATION = 0.02  # of weights: large enough to draw something, small enough to stay finite
BLOCK = 2**22  # random numbers, which are repeated: what they are does not matter here
SAMPLE_S = 0.01


def names_and_shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of a checkpoint of SDXL base in the original layout."""
    config = CONFIGS / "sdxl_base"

    def read(part: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((config / part / "config.json").read_bytes())
        return found

    with torch.device("meta"):
        unet: UNet2DConditionModel = UNet2DConditionModel.from_config(read("unet"))
        vae: AutoencoderKL = AutoencoderKL.from_config(read("vae"))
        first = CLIPTextModel(CLIPTextConfig(**read("text_encoder")))
        second = CLIPTextModelWithProjection(CLIPTextConfig(**read("text_encoder_2")))
    stored: dict[str, Tensor] = {
        **stored_unet(unet),
        **stored_vae(vae),
        **stored_first_text(first),
        **stored_second_text(second),
    }
    return {name: tuple(tensor.shape) for name, tensor in stored.items()}


def write_checkpoint(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Random fp16 weights as safetensors, tensor after tensor: norms are 1, biases 0."""
    header: dict[str, Any] = {}
    at = 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    told = json.dumps(header).encode()
    told += b" " * (-len(told) % 8)
    weights = (np.random.default_rng(0).standard_normal(BLOCK, dtype=np.float32) * DEVIATION).astype(np.float16)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(told)) + told)
        for name, shape in shapes.items():
            count = int(np.prod(shape))
            if name.endswith("bias"):
                file.write(np.zeros(count, np.float16).tobytes())
            elif len(shape) == 1:
                file.write(np.ones(count, np.float16).tobytes())
            else:
                for begin in range(0, count, BLOCK):
                    file.write(weights[: min(BLOCK, count - begin)].tobytes())
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def anonymous_bytes() -> int:
    """Of this process: what is not a mapped file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return sum(int(found[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))


def bytes_read() -> int:
    """Of this process, from the disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


@contextmanager
def watched(found: dict[str, float], name: str) -> Iterator[None]:
    """Put seconds, bytes read and the highest anonymous memory above the first into `found`."""
    over, before, read, began = threading.Event(), anonymous_bytes(), bytes_read(), time.perf_counter()
    peak = [before]

    def sample() -> None:
        while not over.wait(SAMPLE_S):
            peak[0] = max(peak[0], anonymous_bytes())

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield
    finally:
        over.set()
        sampler.join()
        found[f"{name} s"] = time.perf_counter() - began
        found[f"{name} read"] = bytes_read() - read
        found[f"{name} peak"] = max(peak[0], anonymous_bytes()) - before


def measure(folder: Path, dtype: str) -> dict[str, float]:
    """Load the family in `folder` and draw with it."""
    found: dict[str, float] = {}
    torch.zeros(1).exp()  # what torch keeps for itself
    settings = DrawingSettings.model_validate({"family": folder, "dtype": dtype, "rows": 2, "hang_after_s": 3600})
    with watched(found, "load"):
        drawer = Drawer.open(settings)
    try:
        spec = Spec(
            prompt="a lighthouse",
            size=Size(width=SIDE, height=SIDE),
            seeds=(1,),
            steps=STEPS,
            sampler="euler",
            schedule="sgm_uniform",
        )
        heard: Queue[Event | BaseException] = Queue()
        with watched(found, "draw"):
            drawer.submit("one", spec, prepare(spec, [], []), heard.put)
            while isinstance(event := heard.get(), Step):
                print(f"step {event.step}/{event.steps}", file=sys.stderr, flush=True)
        if not isinstance(event, Drawn):
            raise event if isinstance(event, BaseException) else RuntimeError(repr(event))
        found["spread of pixels"] = float(event.images.std())
    finally:
        drawer.close()
    return found


def run(folder: Path, dtype: str, command: str) -> Report:
    """Write a family into `folder` and measure it in another process."""
    shapes = names_and_shapes()
    path = folder / CHECKPOINT
    write_checkpoint(path, shapes)
    (folder / FILE).write_text(json.dumps({"name": "full size", "version": "1", "checkpoint": CHECKPOINT}))
    given = [sys.executable, "-m", "benchmarks.full_size", "--measure", str(folder), "--dtype", dtype]
    child = subprocess.run(given, stdout=subprocess.PIPE, check=True)  # noqa: S603  (this module)
    found: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
    counts = {"unet": 0, "vae": 0, "text": 0}
    for name, shape in shapes.items():
        kind = "unet" if name.startswith("model.") else "vae" if name.startswith("first_stage") else "text"
        counts[kind] += int(np.prod(shape))
    loaded = counts["unet"] * getattr(torch, dtype).itemsize + (counts["vae"] + counts["text"]) * 4
    size = path.stat().st_size
    table = Table("Loading and drawing")
    table.rows.append(
        {
            "load s": found["load s"],
            "parameters as loaded, GB": loaded / 1e9,
            "anonymous memory at most, GB": found["load peak"] / 1e9,
            "memory / parameters": found["load peak"] / loaded,
            "read, GB": found["load read"] / 1e9,
            "read / file": found["load read"] / size,
            "draw s": found["draw s"],
            "more memory while drawing, GB": found["draw peak"] / 1e9,
            "spread of pixels": found["spread of pixels"],
        }
    )
    facts: dict[str, Cell] = {
        **machine(torch.device("cpu")),
        "file": f"{size / 1e9:.2f} GB, {len(shapes)} tensors, fp16",
        "dtype": f"UNet {dtype}, VAE and text encoders float32",
        "picture": f"{SIDE} x {SIDE}, {STEPS} steps, one row a step",
    }
    return Report("full_size", command, facts, (table,))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_size", description=__doc__)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"], help="of the UNet")
    parser.add_argument("--scratch", type=Path, help="folder with 7 GB of room; the system's temporary one otherwise")
    parser.add_argument("--out", type=Path, help="folder for the result")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # a family's folder, in the other process
    given = parser.parse_args(arguments)
    if given.measure is not None:
        print(json.dumps(measure(given.measure, given.dtype)))
        return 0
    with tempfile.TemporaryDirectory(prefix="full-size-", dir=given.scratch) as folder:
        run(Path(folder), given.dtype, " ".join(("python -m benchmarks.full_size", *arguments))).publish(given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
