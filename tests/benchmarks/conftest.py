"""Benchmarks are tested with one thread."""

import pytest


@pytest.fixture(autouse=True)
def alone(one_thread: None) -> None:
    """For every test here."""
