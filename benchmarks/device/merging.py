"""What merging a LoRA into SDXL costs, and what it costs the pictures that are drawn meanwhile."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType, SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.device.clock import seconds
from benchmarks.device.rig import Rig, add
from benchmarks.report import Cell, Table
from benchmarks.sdxl import Models
from pipelines.memory.residency import RESIDENT
from pipelines.weights.variant_spec import LoraRef, VariantSpec
from pipelines.weights.variants import VariantStore

RANK = 32
PLENTY = 2**40
HEAD_START_S = 0.05  # of the pictures before the merging

STREAMS: Mapping[str, bool] = MappingProxyType({"the engine's stream": False, "a stream of its own": True})
"""Where weights are merged, and whether that needs a GPU; the first is the plain way."""


def write_lora(models: Models, file: Path) -> None:
    """A LoRA of random weights for every linear layer of the transformer blocks."""
    tensors: dict[str, Tensor] = {}
    for place, module in models.unet.named_modules():
        if isinstance(module, nn.Linear) and ".transformer_blocks." in place:
            down = torch.randn(RANK, module.in_features) * 0.02
            up = torch.randn(module.out_features, RANK) * 0.02
            tensors[f"unet.{place}.lora_A.weight"] = down.to(models.dtype)
            tensors[f"unet.{place}.lora_B.weight"] = up.to(models.dtype)
    save_file(tensors, file)


class MergingBench:
    """Measures merging on each of `STREAMS`; what it makes is first held to what the plain way makes."""

    def __init__(self, rig: Rig) -> None:
        self.table = Table("Merging a LoRA while pictures are drawn")
        self._rig = rig

    def measure(self, draw: Callable[[], object]) -> None:
        """draw: draws pictures and waits for them."""
        plain: dict[str, Tensor] = {}
        with TemporaryDirectory() as folder:
            lora = Path(folder) / "lora.safetensors"
            write_lora(self._rig.models, lora)
            for stream, own in STREAMS.items():
                if own and not self._rig.on_gpu:
                    continue
                merge = partial(self._merge, lora, own_stream=own)
                merged = merge()
                plain = plain or merged
                difference = max(_relative(merged[name], weight) for name, weight in plain.items())
                del merged
                add(self.table, {"merged on": stream, "difference": difference, **_times(draw, merge)})

    def _merge(self, lora: Path, *, own_stream: bool) -> dict[str, Tensor]:
        """Read the file and merge it anew, to the end. Returns the weights that it changed."""
        models = self._rig.models
        family: Any = SimpleNamespace(
            catalogue=SimpleNamespace(checkpoint=Path("random.safetensors")),
            unet=models.unet,
            text_encoders=models.texts,
            device=models.device,
            residency=RESIDENT,
            home=models.device,
        )
        store = VariantStore(family, PLENTY, own_stream=own_stream)
        base = store.get(VariantSpec(performance=(LoraRef(lora, 0.8),))).base
        if own_stream:
            for event, _ in base.unready:  # and not for the pictures that are drawn beside it
                event.synchronize()
            base.ready()
        else:
            self._rig.clock.wait()
        ours = dict(models.unet.named_parameters())
        return {name: weight for name, weight in base.unet.named_parameters() if weight is not ours[name]}


def _times(draw: Callable[[], object], merge: Callable[[], object]) -> dict[str, Cell]:
    alone_s, merge_alone_s = seconds(draw), seconds(merge)

    def merge_beside() -> float:
        time.sleep(HEAD_START_S)
        return seconds(merge)

    with ThreadPoolExecutor(1) as other:
        merging = other.submit(merge_beside)
        beside_s = seconds(draw)
        return {
            "merge alone s": merge_alone_s,
            "merge beside s": merging.result(),
            "pictures alone s": alone_s,
            "pictures beside s": beside_s,
            "held up s": beside_s - alone_s,
        }


def _relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.std())
