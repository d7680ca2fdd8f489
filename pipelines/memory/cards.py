"""Graphics cards: what is planned for those of the usual sizes."""

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel

from pipelines.catalogue import Catalogue
from pipelines.errors import WeightsFault
from pipelines.memory.describing import largest_side, rows_of, taking_turns
from pipelines.memory.footprint import CONTROLS, bytes_of, measure, of_models, unet_of
from pipelines.memory.plan import COMMON, GB, Footprint, in_gb, plan_memory
from pipelines.parts import CONFIGS, Part

Dtype = Literal["float16", "bfloat16", "float32"]

CARDS = (8, 12, 16, 24, 80)  # GB
ROWS = 16  # of a call at most, as the configuration for GPUs has it
HEAD = (
    "memory",
    "family's own models",
    f"rows of a call at {COMMON} x {COMMON}",
    "largest picture",
    "for merged LoRAs and control networks",
    "takes turns with the UNet",
)
CUDA = torch.device("cuda")  # which need not be there


def of_family(catalogue: Catalogue, dtype: Dtype) -> Footprint:
    """The footprint of a family on a CUDA device. Raises as `measure` does."""
    return measure(catalogue, CUDA, getattr(torch, dtype))


def of_sdxl(dtype: Dtype, published: Mapping[Part, int]) -> Footprint:
    """The footprint of SDXL as published, with every part. Control networks are taken whole, which is the most that
    they can have of their own. published: bytes of the parts that no configuration here tells."""
    base = CONFIGS / "sdxl_base"
    unet = unet_of(base, getattr(torch, dtype))
    with torch.device("meta"):
        control: ControlNetModel = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
    optional: dict[Part, int] = {
        **dict.fromkeys(CONTROLS, sum(each.numel() for each in control.parameters()) * unet.dtype.itemsize),
        "inpaint_patch": bytes_of(unet),
        "refiner": bytes_of(unet_of(CONFIGS / "sdxl_refiner", unet.dtype)),  # the larger kind
        **published,
    }
    return of_models("SDXL", base, unet, CUDA, optional, controlled=True)


def table(footprint: Footprint, cards: tuple[float, ...] = CARDS) -> Iterator[tuple[str, ...]]:
    """A row for each card, in the columns of `HEAD`. cards: memory in GB of 2**30 bytes."""
    for card in cards:
        try:
            plan = plan_memory(footprint, int(card * GB), ROWS)
        except WeightsFault:
            yield f"{card:g} GB", "do not fit", "", "", "", ""
            continue
        side = largest_side(plan, footprint)
        stay = "on the device together" if footprint.base <= plan.parts else "brought when used"
        yield (
            f"{card:g} GB",
            "resident" if plan.resident else stay,
            str(rows_of(plan, COMMON, ROWS)),
            f"{side} x {side}",
            in_gb(plan.merged) if plan.resident else "merged in the host's memory",
            ", ".join(taking_turns(plan, footprint)) or "nothing",
        )
