"""Fixtures of the whole suite: the pocket family, on disk and in memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from models.pocket.write import write_family
from pipelines.weights.family import Family, load_family

pytest_plugins = ["tests.cluster"]

POCKET = Path(__file__).parent.parent / ".cache" / "pocket"

settings.register_profile("busy", deadline=None)  # an example takes long where the machine is busy
settings.load_profile("busy")


@pytest.fixture(scope="session")
def pocket_family_folder() -> Path:
    """The pocket family on disk, the same that `make serve` uses; written when it is not there."""
    write_family(POCKET)
    return POCKET


@pytest.fixture(scope="session")
def pocket_family(pocket_family_folder: Path) -> Family:
    """The pocket family in memory, fp32 on the CPU. Shared: never change it in place."""
    return load_family(pocket_family_folder, torch.device("cpu"), torch.float32)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread for torch: on a busy machine two wait for each other at every one of the small operations."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first; those on the cluster last, together, whichever folder they are in."""
    items.sort(
        key=lambda item: (
            item.get_closest_marker("cluster") is not None,
            item.get_closest_marker("clients") is not None,
        )
    )
