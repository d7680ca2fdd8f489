"""Profiling: rows are doubled as long as that pays, and what was found is remembered."""

from pathlib import Path

import pytest
import torch

from pipelines.device import PlainDevice
from pipelines.spec import Size
from pipelines.unet import profiling
from pipelines.unet.profiling import Measure, measured_caps, row_caps
from pipelines.weights.family import Family

CPU = PlainDevice(torch.device("cpu"))
SMALL, LARGE = Size(width=256, height=256), Size(width=1024, height=1024)


def device(full_at: int, memory: int) -> Measure:
    """Takes as long for 1 row of 1024 x 1024 as for `full_at`; holds `memory` of them."""

    def seconds(size: Size, rows: int) -> float:
        work = rows * size.width * size.height / 1024**2
        if work > memory:
            raise torch.OutOfMemoryError("full")
        return max(1.0, work / full_at)

    return seconds


@pytest.mark.parametrize(
    ("full_at", "memory", "rows", "wanted"), [(4, 100, 16, 4), (1, 100, 16, 1), (100, 8, 32, 8), (100, 100, 8, 8)]
)
def test_rows_grow_until_that_gains_nothing_or_does_not_fit(full_at: int, memory: int, rows: int, wanted: int) -> None:
    assert measured_caps(rows, [LARGE], device(full_at, memory)).measured == ((128 * 128, wanted),)


def test_each_size_has_a_cap_of_its_own() -> None:
    assert measured_caps(64, [LARGE, SMALL], device(2, 100)).measured == ((32 * 32, 32), (128 * 128, 2))


def test_another_fault_is_not_hidden() -> None:
    def broken(size: Size, rows: int) -> float:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        measured_caps(8, [SMALL], broken)


def test_without_sizes_nothing_is_measured(pocket_family: Family, tmp_path: Path) -> None:
    assert row_caps(pocket_family.unet, CPU, 8, (), tmp_path).at(10) == 8
    assert list(tmp_path.iterdir()) == []


def test_a_family_is_measured_once(pocket_family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "profiles"
    sizes = [Size(width=64, height=64)]
    found = row_caps(pocket_family.unet, CPU, 2, sizes, folder)
    assert found.measured[0][1] in (1, 2)

    def never(*_: object) -> float:
        raise AssertionError("measured again")

    monkeypatch.setattr(profiling, "_seconds", never)
    assert row_caps(pocket_family.unet, CPU, 2, sizes, folder) == found
    with pytest.raises(AssertionError):
        row_caps(pocket_family.unet, CPU, 4, sizes, folder)
