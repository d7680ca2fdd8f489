"""Several processes that train one network, each on its share of a batch.

On a CPU two processes with one thread each do about twice the work of one with two threads: a small UNet's layers are
too short to be split among threads.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed, nn
from torch.multiprocessing.spawn import spawn

PATIENCE = timedelta(hours=1)  # with the first process, which alone scores and saves


@dataclass(frozen=True, slots=True)
class DistributedGroup:
    """This process's place among those that train together. The first, 0, logs, scores and saves."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, batch: int) -> int:
        """How many of a batch this process takes: the same for each."""
        return max(1, batch // self.size)

    def average_gradients(self, module: nn.Module) -> None:
        """Give every process the mean of all gradients. All must call it in the same step."""
        if self.size == 1:
            return
        found = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in found])
        distributed.all_reduce(flat)
        flat /= self.size
        parts = torch.split(flat, [gradient.numel() for gradient in found])
        for gradient, part in zip(found, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def run(size: int, work: Callable[[DistributedGroup], None]) -> None:
    """Call `work` in that many processes, or in this one where it is 1. work: can be pickled."""
    if size == 1:
        work(DistributedGroup())
        return
    with tempfile.TemporaryDirectory() as folder:
        spawn(_worker, (size, Path(folder) / "meeting", work), nprocs=size)  # type: ignore[no-untyped-call]


def _worker(rank: int, size: int, meeting: Path, work: Callable[[DistributedGroup], None]) -> None:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // size))
    distributed.init_process_group("gloo", f"file://{meeting}", PATIENCE, world_size=size, rank=rank)
    try:
        work(DistributedGroup(rank, size))
    finally:
        distributed.destroy_process_group()
