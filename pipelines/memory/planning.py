"""Planning: what a family is planned with on a device."""

import logging
from typing import TYPE_CHECKING

import torch

from pipelines.memory.describing import describe
from pipelines.memory.footprint import measure
from pipelines.memory.plan import GB, MB, MemoryPlan, plan_memory

if TYPE_CHECKING:
    from pipelines.catalogue import Catalogue

UNPLANNED_MERGED_MB = 2048  # for merged weights where nothing is planned and no setting says otherwise

log = logging.getLogger("fooocus.engine")


def plan_for(
    catalogue: "Catalogue",
    device: torch.device,
    dtype: torch.dtype,
    *,
    rows: int,
    memory_gb: float | None = None,
    variant_budget_mb: int | None = None,
) -> MemoryPlan | None:
    """The plan for a family on a device, before any of it is loaded; None where nothing is planned.

    dtype: of the UNet. rows: the most of a call. memory_gb: what to plan with, in GB of 2**30 bytes; None for what a
    CUDA device has free now, and for no plan elsewhere. variant_budget_mb: the most for merged weights, None for what
    is left. Takes a second or two, reads configurations and headers alone, and logs the plan.

    Raises WeightsFault, with the figures, for a family that does not fit.
    """
    if memory_gb is not None:
        memory = int(memory_gb * GB)
    elif device.type == "cuda":
        memory = torch.cuda.mem_get_info(device)[0]
    else:
        return None
    footprint = measure(catalogue, device, dtype)
    merged = None if variant_budget_mb is None else variant_budget_mb * MB
    plan = plan_memory(footprint, memory, rows, merged)
    for line in describe(plan, footprint, rows):
        log.info("%s", line)
    return plan
