"""Engines of a stage that only counts, in both ways to read their checks."""

from collections.abc import Iterator

import pytest

from pipelines.engine.engine import Engine
from tests.pipelines.engine.fakes import Counting


@pytest.fixture
def stage() -> Counting:
    return Counting()


@pytest.fixture(params=[False, True], ids=["at once", "ahead"])
def engine(stage: Counting, request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = Engine([stage], counted="count", ahead=request.param)
    yield engine
    stage.gate.release(1000)
    engine.close()


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every step be told."""
    monkeypatch.setattr("pipelines.listeners.PROGRESS_S", 0.0)
