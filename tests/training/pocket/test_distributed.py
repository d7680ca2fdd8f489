"""Processes that train together take the same step, on what all of them have seen."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from training.pocket.distributed import DistributedGroup, run


def _learn(folder: Path, group: DistributedGroup) -> None:
    torch.manual_seed(1)
    layer = nn.Linear(2, 1)
    (layer(torch.tensor([[1.0, float(group.rank)]])).sum() * (group.rank + 1)).backward()
    group.average_gradients(layer)
    torch.save([parameter.grad for parameter in layer.parameters()], folder / f"{group.rank}.pt")


def test_gradients_are_averaged_over_processes(tmp_path: Path) -> None:
    run(2, partial(_learn, tmp_path))
    for rank in range(2):
        weight, bias = torch.load(tmp_path / f"{rank}.pt")
        assert weight.tolist() == [[(1 + 2) / 2, (0 + 2) / 2]]
        assert bias.tolist() == [(1 + 2) / 2]


def test_one_alone_keeps_its_own(tmp_path: Path) -> None:
    run(1, partial(_learn, tmp_path))
    weight, _ = torch.load(tmp_path / "0.pt")
    assert weight.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(("batch", "size", "share"), [(48, 2, 24), (3, 2, 1), (1, 4, 1)])
def test_a_batch_is_shared_out(batch: int, size: int, share: int) -> None:
    assert DistributedGroup(0, size).share(batch) == share
    assert [DistributedGroup(rank, size).leads for rank in range(2)] == [True, False]
