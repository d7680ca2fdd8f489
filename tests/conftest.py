"""Fixtures of the whole suite: the pocket family, on disk and in memory."""

from pathlib import Path

import pytest
import torch

from models.pocket.write import write_family
from pipelines.weights.family import Family, load_family

pytest_plugins = ["tests.cluster"]

POCKET = Path(__file__).parent.parent / ".cache" / "pocket"


@pytest.fixture(scope="session")
def pocket_family_folder() -> Path:
    """The pocket family on disk, the same that `make serve` uses; written when it is not there."""
    write_family(POCKET)
    return POCKET


@pytest.fixture(scope="session")
def pocket_family(pocket_family_folder: Path) -> Family:
    """The pocket family in memory, fp32 on the CPU. Shared: never change it in place."""
    return load_family(pocket_family_folder, torch.device("cpu"), torch.float32)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first; those on the cluster last, together, whichever folder they are in."""
    items.sort(
        key=lambda item: (
            item.get_closest_marker("cluster") is not None,
            item.get_closest_marker("clients") is not None,
        )
    )
