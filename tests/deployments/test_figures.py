"""What the Dispatcher publishes: the ledger's demand, what comes steadily, how fast replicas draw."""

import asyncio
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from deployments import figures as module
from deployments.autoscaling import Figures, Rules, figures_in, publish, rules_in
from deployments.dispatcher import Dispatcher
from deployments.figures import KEPT_S, Arrivals, Meter, Paces, Spent
from gateway.files.backends import LocalFiles
from gateway.ledger.demand import Demand, Waiting
from gateway.ledger.models import Priority
from gateway.ledger.store import SqlLedger
from gateway.settings import GatewaySettings, ScalingRules
from pipelines.weights.at_hand import Weights
from tests.gateway.fakes import FakeRunner
from tests.gateway.ledger.works import APP, work


def full(ms: float, rows: int = 16, row_steps: float = 320) -> Spent:
    """Calls of so many rows, in which a row-step takes `ms`."""
    return Spent(
        1, calls=round(row_steps / rows), rows=round(row_steps), row_steps=row_steps, seconds=row_steps * ms / 1e3
    )


def test_a_pace_is_what_the_calls_took_a_row() -> None:
    paces = Paces()
    assert paces.ms_per_row_step(0) == 0
    paces.hear(full(20), 0)
    assert paces.ms_per_row_step(0) == pytest.approx(20)


def test_emptier_calls_do_not_count_for_slower_replicas() -> None:
    paces = Paces()
    paces.hear(full(20), 0)
    for second in range(60):
        paces.hear(full(50, rows=2), second)
    assert paces.ms_per_row_step(60) == pytest.approx(20)
    paces.hear(full(30, row_steps=10_000), 61)
    assert paces.ms_per_row_step(61) == pytest.approx(30, rel=0.01)


def test_what_a_full_replica_takes_is_believed_before_its_fullest_calls() -> None:
    paces = Paces()
    paces.hear(full(20, rows=32), 0)
    paces.hear(full(25, rows=12), 1, full=True)  # calls of unlike bases and sizes, by turns
    paces.hear(full(20, rows=32), 2)
    assert paces.ms_per_row_step(2) == pytest.approx(25)
    assert paces.ms_per_row_step(KEPT_S + 2) == pytest.approx(20)


def test_a_replica_was_full_in_a_time_at_whose_two_ends_it_is() -> None:
    meter = Meter()
    for told in (True, False, True, False):
        meter.hear("filled and emptied", full(50, rows=2), full=told)
    meter.hear("full", full(20))
    assert meter.figures(Demand({}), {"full"}, 0).ms_per_row_step == pytest.approx(20)
    for _ in range(2):
        meter.hear("full", full(25), full=True)
    assert meter.figures(Demand({}), {"full"}, 0).ms_per_row_step == pytest.approx(25)


def test_what_was_measured_long_ago_or_with_hardly_any_work_is_not_believed() -> None:
    paces = Paces()
    paces.hear(full(20), 0)
    paces.hear(full(50, rows=2), KEPT_S)
    assert paces.ms_per_row_step(KEPT_S + 1) == pytest.approx(50)
    paces.hear(full(1000, rows=32, row_steps=1), KEPT_S)
    assert paces.ms_per_row_step(KEPT_S + 1) == pytest.approx(50)


@pytest.mark.parametrize("spent", [Spent(1), Spent(1, calls=1, rows=1, row_steps=1), Spent(0, seconds=3)])
def test_who_drew_nothing_says_nothing_of_a_pace(spent: Spent) -> None:
    paces = Paces()
    paces.hear(spent, 0)
    assert paces.ms_per_row_step(0) == 0


def test_what_comes_steadily_is_told_after_a_minute_and_for_a_minute() -> None:
    arrivals, told = Arrivals(), []
    for second in range(180):
        arrivals.hear(5.0 if second < 90 else 0.0, second)
        told.append(arrivals.per_s(second))
    assert told[29] == 0
    assert told[60] == told[89] == pytest.approx(5)
    assert told[125] == 0


def test_a_burst_is_nothing_that_comes_steadily() -> None:
    arrivals = Arrivals()
    arrivals.hear(6000, 0)
    assert {arrivals.per_s(second) for second in range(70)} == {0}


def test_the_figures_are_those_of_the_ledger_and_of_the_replicas_that_live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "time", lambda: 123.0)
    meter = Meter()
    meter.hear("drawing", full(20))
    meter.hear("idle", Spent())
    meter.hear("gone", Spent(live=3))
    demand = Demand(
        {Priority.NORMAL: Waiting(3, 30.0, 7.0), Priority.LOW: Waiting(1, 10.0, 9.0)},
        held=2,
        claimed_row_steps=5.0,
        running_row_steps=6.0,
        newest=17,
    )
    assert asdict(meter.figures(demand, {"drawing", "idle"}, 3)) == asdict(
        Figures(
            queued_row_steps=40,
            queued_low_row_steps=10,
            held_row_steps=11,
            claimed_row_steps=5,
            waiting=4,
            held=2,
            oldest_wait_s=7,
            ms_per_row_step=pytest.approx(20),
            living=2,
            busy=1,
            room=3,
            at=123,
        )
    )
    assert meter.newest == 17


def test_the_rules_are_the_settings_and_the_bounds() -> None:
    assert {each.name for each in fields(Rules)} == {*ScalingRules.model_fields, "least", "most"}
    assert rules_in({}, 0, 1) == Rules(**ScalingRules().model_dump())
    given = ScalingRules(wait_s=3, zero_s=4)
    published = publish(Figures(at=5, waiting=6), given.model_dump())
    assert rules_in(published, 1, 9) == Rules(**given.model_dump(), least=1, most=9)
    assert figures_in(published) == Figures(at=5, waiting=6)
    assert figures_in({}) is None
    assert all(isinstance(value, float | int) for value in published.values())


async def test_a_dispatcher_publishes_what_its_ledger_has_and_its_rules_as_they_are_now(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path)
    ledger = await SqlLedger.open(settings.ledger_address)
    dispatcher = Dispatcher.__new__(Dispatcher)
    dispatcher._start(ledger, None, LocalFiles(tmp_path), lambda _: FakeRunner(), settings)
    await dispatcher.leading.look()
    dispatcher._dispatching._draining = True  # what waits stays
    await ledger.submit(work("a"), APP)
    await dispatcher.report("one", 8, (), full(20), (Weights("lcm"),))
    assert dispatcher._replicas.states()[0].holds == {Weights("lcm")}
    await dispatcher.reconfigure({"scaling": {"wait_s": 3}})
    published = await dispatcher.record_autoscaling_stats()
    told = figures_in(published)
    assert told is not None
    # of eight rows two are those of what it draws for who led before
    assert (told.waiting, told.queued_row_steps, told.living, told.busy, told.room) == (1, 4, 1, 1, 3)
    assert rules_in(published, 0, 1).wait_s == 3
    await asyncio.gather(ledger.submit(work("b"), APP), ledger.submit(work("c"), APP))
    await dispatcher.record_autoscaling_stats()
    assert sum(row_steps for _, row_steps in dispatcher._meter._arrivals._came) == 8
    stopping = dispatcher.__del__()
    assert stopping is not None
    await stopping
