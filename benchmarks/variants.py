"""What a change of LoRAs costs: building a variant, and switching between two that are there.

python -m benchmarks.variants FAMILY    (the folder of a family; .cache/pocket is what `make test` writes)
"""

import argparse
import queue
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipelines.drawing import Drawer
from pipelines.events import Drawn, Step
from pipelines.inputs import FoundLora
from pipelines.preparing import prepare
from pipelines.settings import DrawingSettings
from pipelines.spec import Lora, Size, Spec
from pipelines.weights.family import load_family
from pipelines.weights.variant_spec import LoraRef, VariantSpec
from pipelines.weights.variants import VariantStore

FAST, STYLE = "sdxl_lcm_lora", "sd_xl_offset_example-lora_1.0"
PLENTY = 2**40


def seconds(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def builds(folder: Path, repeats: int) -> dict[str, float]:
    """Median seconds of reading and merging a set of LoRAs, of merging from parsed files, and of finding a variant."""
    family = load_family(folder, torch.device("cpu"), torch.float32)
    files = [family.catalogue.lora(name) for name in (FAST, STYLE)]
    fast, style = (file for file in files if file is not None)

    def variant_spec(at: int) -> VariantSpec:
        return VariantSpec((LoraRef(fast, 1.0),), (LoraRef(style, 0.01 * (at + 1)),))

    cold = [seconds(lambda: VariantStore(family, PLENTY).get(variant_spec(0))) for _ in range(repeats)]
    empty = [seconds(lambda: VariantStore(family, PLENTY)) for _ in range(repeats)]
    store = VariantStore(family, PLENTY)
    store.get(variant_spec(0))
    warm = [seconds(partial(store.get, variant_spec(at))) for at in range(1, repeats + 1)]
    found = [seconds(lambda: store.get(variant_spec(0))) for _ in range(repeats)]
    medians = map(statistics.median, (cold, empty, warm, found))
    return dict(
        zip(("read and merge", "of which opening the store", "merge parsed files", "find"), medians, strict=True)
    )


def requests(folder: Path, repeats: int, size: int, steps: int) -> dict[str, float]:
    """Median seconds of a request that repeats the LoRAs of the one before, and of one that changes to another set."""
    drawer = Drawer.open(DrawingSettings(family=folder, lora_branches=False))
    family = load_family(folder, torch.device("cpu"), torch.float32)
    files = tuple(file for name in (FAST, STYLE) if (file := family.catalogue.lora(name)) is not None)

    def draw(scale: float) -> None:
        loras = (Lora(source=FAST, scale=1.0, performance=True), Lora(source=STYLE, scale=scale))
        found = tuple(map(FoundLora, loras, files))
        side = Size(width=size, height=size)
        text = "a red circle"
        spec = Spec(prompt=text, size=side, seeds=(1,), steps=steps, sampler="lcm", schedule="lcm", loras=loras)
        events: queue.Queue[Any] = queue.Queue()
        drawer.submit("one", spec, prepare(spec, (), found), events.put)
        while isinstance(event := events.get(), Step):
            pass
        if not isinstance(event, Drawn):
            raise event

    try:
        draw(0.1)
        draw(0.2)
        same, switched = [], []
        for _ in range(repeats):  # in turn, so that whatever else the machine does falls on both
            switched.append(seconds(lambda: draw(0.1)))
            same.append(seconds(lambda: draw(0.1)))
            switched.append(seconds(lambda: draw(0.2)))
            same.append(seconds(lambda: draw(0.2)))
    finally:
        drawer.close()
    return {"same": statistics.median(same), "switched": statistics.median(switched)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", type=Path)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8)
    given = parser.parse_args(arguments)
    print("| what | ms |\n|---|---|")
    for name, value in builds(given.family, given.repeats).items():
        print(f"| {name} | {value * 1000:.2f} |")
    told = requests(given.family, given.repeats, given.size, given.steps)
    print(f"| request of {given.steps} steps at {given.size}, same LoRAs | {told['same'] * 1000:.1f} |")
    print(f"| the same after a switch of LoRAs | {told['switched'] * 1000:.1f} |")
    print(f"\nA switch costs {(told['switched'] / told['same'] - 1) * 100:+.1f} % of a request.")


if __name__ == "__main__":
    main()
