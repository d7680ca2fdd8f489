"""The simulated fleet beside a real one: requests come more and more often, then less, for none to six replicas."""

import asyncio
import json
import os
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from benchmarks.fleet.comparing import compare
from gateway.ledger import tables
from gateway.ledger.store import SqlLedger
from pipelines.row_steps import row_steps_of
from pipelines.spec import Size
from tests.deployments.scaled import MOST, SPEC, Scaled, deployed

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(560)]

COSTS = Path(__file__).parent.parent / "machines" / "row_costs.json"
OUT = "FOOOCUS_TEST_OUT"  # a folder for what was seen; the test's own without it
LARGE = SPEC.model_copy(update={"size": Size(width=1024, height=1024), "steps": 40})
ROWS = 2  # of a request in each of its calls
RULES = {"wait_s": 5.0, "start_s": 5.0, "keep_s": 10.0, "zero_s": 10.0, "ms_per_row_step": 30.0}
REQUESTS, SECONDS = 150, 80.0  # more than six can do in the middle
LOOK_S = 0.25
PROBES = 3

Times = tuple[datetime, datetime, datetime]


@pytest.fixture(scope="module")
def points() -> list[tuple[float, float]]:
    """Of the engine's costs."""
    return [(rows, ms) for rows, ms in json.loads(COSTS.read_text())["points"]]


@pytest.fixture(scope="module")
def data(
    cluster: int,
    tmp_path_factory: pytest.TempPathFactory,
    pocket_family_folder: Path,
    points: list[tuple[float, float]],
) -> Iterator[Path]:
    """The data folder of the app."""
    rows = int(points[-1][0])
    with deployed(cluster, tmp_path_factory.mktemp("fleet"), pocket_family_folder, points, rows, RULES) as data:
        yield data


@pytest.fixture
async def scaled(data: Path) -> Any:
    ledger = await SqlLedger.open(f"sqlite:///{data / 'ledger.db'}")
    yield Scaled(data, ledger, LARGE)
    await ledger.close()


async def times_of(scaled: Scaled, ids: Sequence[str]) -> list[Times]:
    """When each of them came, began and ended, in the order in which they came."""
    table = tables.request.c
    asked = select(table.created_at, table.started_at, table.finished_at).where(table.id.in_(ids))
    rows = await scaled.ledger.database.read(lambda connection: connection.execute(asked).all())
    return sorted((row[0], row[1], row[2]) for row in rows)


async def draw_one_by_one(scaled: Scaled) -> list[Times]:
    """Some requests, each where a replica waits for it but for the first."""
    times = []
    for _ in range(1 + PROBES):
        ids = await scaled.submit(1)
        await scaled.until_drawn(ids)
        times += await times_of(scaled, ids)
    return times


def taken_besides(times: Sequence[Times], alone_s: float) -> dict[str, float]:
    """What a request takes before its first step and behind its last."""
    before = [(began - came).total_seconds() for came, began, _ in times]
    behind = [(ended - began).total_seconds() - alone_s for _, began, ended in times]
    return {"prepare_s": round(median(before), 3), "finish_s": round(max(0.0, median(behind)), 3)}


async def play(scaled: Scaled) -> list[str]:
    """Submit one request after the other, most often in the middle. Their ids."""
    chance, ids = np.random.default_rng(1), list[str]()
    began = time.time()
    for at in np.sort(chance.triangular(0.0, SECONDS / 2, SECONDS, REQUESTS)):
        await asyncio.sleep(max(0.0, began + at - time.time()))
        ids += await scaled.submit(1)
    return ids


async def watch(scaled: Scaled, seen: list[tuple[float, int, int]]) -> None:
    """Write down how many replicas are wanted and run."""
    while True:
        wanted, running = await asyncio.to_thread(scaled.diffusers)
        seen.append((time.time(), wanted, running))
        await asyncio.sleep(LOOK_S)


def starts_s(seen: Sequence[tuple[float, int, int]]) -> list[float]:
    """How long after it was first wanted each replica first ran."""
    most = max(running for _, _, running in seen)
    return [
        round(
            next(at for at, _, running in seen if running >= number)
            - next(at for at, wanted, _ in seen if wanted >= number),
            2,
        )
        for number in range(1, most + 1)
    ]


async def test_a_fleet_goes_as_it_is_simulated(
    scaled: Scaled, points: list[tuple[float, float]], tmp_path: Path
) -> None:
    alone_s = LARGE.steps * dict(points)[ROWS] / 1000
    probes = await draw_one_by_one(scaled)
    await scaled.until(0, running=0)
    seen: list[tuple[float, int, int]] = []
    watching = asyncio.create_task(watch(scaled, seen))
    ids = await play(scaled)
    await scaled.until_drawn(ids)
    watching.cancel()
    times = await times_of(scaled, ids)
    first = times[0][0].timestamp()
    row_steps = row_steps_of(LARGE)
    drawn = {"steps": LARGE.steps, "rows": ROWS, "row_steps": row_steps}
    said = {
        "ms_by_rows": {f"{rows:g}": ms for rows, ms in points},
        "starts_s": starts_s(seen),
        "rules": RULES,
        "least": 0,
        "most": MOST,
        **taken_besides(probes[1:], alone_s),
        "before": [
            {"at": round(came.timestamp() - first, 2), "seconds": round((ended - began).total_seconds(), 2), **drawn}
            for came, began, ended in probes
        ],
        "react_s": round(next(at for at, wanted, _ in seen if wanted) - first, 2),
        "seen": [(round(at - first, 2), wanted, running) for at, wanted, running in seen],
    }
    told = [
        {
            "at": round(came.timestamp() - first, 3),
            "began_at": round(began.timestamp() - first, 3),
            "ended_at": round(ended.timestamp() - first, 3),
            **drawn,
        }
        for came, began, ended in times
    ]
    lines = [json.dumps(each) for each in (said, *told)]
    out = Path(os.environ.get(OUT, tmp_path)) / "one_node.jsonl"
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    compared = compare(lines)
    print(f"{compared.told()}; see {out}")
    assert compared.disagrees_in() == []
