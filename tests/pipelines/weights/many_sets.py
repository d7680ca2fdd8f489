"""A program: build 200 different sets of LoRAs within a budget and print what that did to the resident memory."""

import json
import sys
from pathlib import Path

import psutil
import torch

from pipelines.weights.family import load_family
from pipelines.weights.variant_spec import LoraRef, VariantSpec
from pipelines.weights.variants import VariantStore

BUDGET = 96 * 2**20  # two sets
WARM_UP, SETS = 30, 200  # the first fill the budget


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(psutil.Process().memory_info().rss)


def main(folder: Path) -> None:
    """Print as JSON the bytes that memory has grown by, that were merged, and that the store holds."""
    torch.set_num_threads(1)
    family = load_family(folder, torch.device("cpu"), torch.float32)
    fast, style = family.catalogue.lora("sdxl_lcm_lora"), family.catalogue.lora("sd_xl_offset_example-lora_1.0")
    assert fast is not None
    assert style is not None
    ours = {id(parameter) for parameter in family.unet.parameters()}
    store = VariantStore(family, BUDGET)
    before = merged = 0
    for at in range(WARM_UP + SETS):
        if at == WARM_UP:
            before, merged = resident(), 0
        unet = store.get(VariantSpec((LoraRef(fast, 1.0),), (LoraRef(style, 0.001 * (at + 1)),))).unet
        merged += sum(parameter.nbytes for parameter in unet.parameters() if id(parameter) not in ours)
    print(json.dumps({"grown": resident() - before, "merged": merged, "kept": store.resident_bytes}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
