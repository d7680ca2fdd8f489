"""The policy in Serve: replicas that sleep come for a burst, all at once, and go when it is over."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger.store import SqlLedger
from pipelines.row_steps import row_steps_of
from tests.deployments.scaled import MOST, SPEC, Scaled, deployed
from tests.deployments.scaling_app import SILENT

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(500)]

BURST = 60
REACTION_S = 3.0  # of which two are one interval in which figures are made and one in which they are sent
RULES = {
    "wait_s": 10,
    "start_s": 0,
    "keep_s": 4,
    "zero_s": 8,
    "stale_s": 3,
    "ms_per_row_step": 1000 / row_steps_of(SPEC),
}


@pytest.fixture(scope="module")
def data(cluster: int, tmp_path_factory: pytest.TempPathFactory, pocket_family_folder: Path) -> Iterator[Path]:
    """The data folder of the app."""
    points = [(0.0, 0.0), (1.0, RULES["ms_per_row_step"])]
    with deployed(cluster, tmp_path_factory.mktemp("scaling"), pocket_family_folder, points, 4, RULES) as data:
        yield data


@pytest.fixture
async def scaled(data: Path) -> Any:
    ledger = await SqlLedger.open(f"sqlite:///{data / 'ledger.db'}")
    yield Scaled(data, ledger, SPEC)
    await ledger.close()


async def test_a_burst_has_all_its_replicas_asked_for_in_one_step_and_none_is_left(scaled: Scaled) -> None:
    assert scaled.diffusers() == (0, 0)
    began = time.monotonic()
    ids = await scaled.submit(BURST)
    assert await scaled.until(MOST) == [0, MOST]
    reacted_s = time.monotonic() - began
    assert reacted_s < REACTION_S
    assert await scaled.until(MOST, running=MOST) == [MOST]
    ran_s = time.monotonic() - began
    drawn = asyncio.create_task(scaled.until_drawn(ids))
    down = await scaled.until(0, running=0)
    assert drawn.done()
    await drawn
    assert down == sorted(down, reverse=True)  # none has come again meanwhile
    print(
        f"target after {reacted_s:.1f} s, {MOST} ran after {ran_s:.1f} s, none after {time.monotonic() - began:.1f} s"
    )


async def test_nothing_changes_while_there_are_no_figures(scaled: Scaled) -> None:
    ids = await scaled.submit(BURST)
    await scaled.until(MOST)
    (scaled.data / SILENT).touch()
    await scaled.until_drawn(ids)
    quiet = time.monotonic() + 2 * (RULES["keep_s"] + RULES["zero_s"])
    while time.monotonic() < quiet:
        assert scaled.diffusers()[0] == MOST
        await asyncio.sleep(0.2)
    (scaled.data / SILENT).unlink()
    await scaled.until(0, running=0)
