"""What a Dispatcher tells operators: who draws, how full they are, how the last minute went."""

import pickle
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deployments import replica
from deployments.diffuser import Diffuser
from deployments.dispatcher import Dispatcher
from deployments.figures import Spent
from deployments.overview import LAST_S, Recents, drawers_of
from deployments.replica import Around, metrics_addresses
from gateway.files.backends import LocalFiles
from gateway.ledger.store import SqlLedger
from gateway.settings import GatewaySettings
from gateway.worker.capacity import AVOIDED_S, ReplicaRegistry
from gateway.worker.overview import Lately, Overview
from gateway.worker.placing import Wanted
from pipelines.events import EngineStats
from pipelines.weights.at_hand import Weights
from tests.gateway.fakes import Clock, FakeRunner

SPENT = Spent(1, calls=4, rows=20, row_steps=20, seconds=3, bases_found=2, bases_built=1, adapters_built=5)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_was_drawn_counts_for_a_minute(clock: Clock) -> None:
    recents = Recents(clock)
    recents.hear("one", SPENT)
    clock.now = LAST_S / 2
    recents.hear("one", SPENT)
    assert recents.of("one") == Lately(8, 40, 6 / LAST_S, 4, 2, 0, 10)
    clock.now = LAST_S
    assert recents.of("one") == Lately(4, 20, 3 / LAST_S, 2, 1, 0, 5)
    assert recents.of("another") == Lately()


def test_of_replicas_that_have_gone_nothing_is_kept(clock: Clock) -> None:
    recents = Recents(clock)
    recents.hear("one", SPENT)
    clock.now = LAST_S
    recents.hear("two", SPENT)
    assert [*recents._spent] == ["two"]


def test_each_replica_that_lives_is_told_with_its_state_and_what_it_has(clock: Clock) -> None:
    replicas, recents = ReplicaRegistry(clock), Recents(clock)
    film, fast = Weights("", "film"), Weights("lcm", "film")
    for name, rows in (("busy", 8), ("idle", 8), ("leaving", 8), ("dead", 0)):
        replicas.report(name, rows, (), [film, fast, Weights("", "ink")] if name == "busy" else [])
        recents.hear(name, SPENT)
    replicas.give("busy", Wanted(2))
    replicas.give("busy", Wanted(4, film))
    replicas.avoid("leaving")
    told = {one.name: one for one in drawers_of(replicas, recents)}
    assert {name: one.state for name, one in told.items()} == {
        "busy": "drawing",
        "dead": "ended",
        "idle": "idle",
        "leaving": "avoided",
    }
    busy = told["busy"]
    assert (busy.rows, busy.taken, busy.requests, busy.bases, busy.lora_sets) == (8, 6, 2, ["lcm"], 2)
    assert busy.lately.rows == 20
    clock.now = AVOIDED_S
    assert drawers_of(replicas, recents) == []


async def test_the_one_that_leads_tells_it_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.dispatcher.around", lambda _: Around(2, ["http://10.0.0.1:9/metrics"]))
    settings = GatewaySettings(data_dir=tmp_path)
    ledger = await SqlLedger.open(settings.ledger_address)
    one = Dispatcher.__new__(Dispatcher)
    one._start(ledger, None, LocalFiles(tmp_path), lambda _: FakeRunner(), settings)
    assert not (await one.overview()).leads
    await one.leading.look()
    await one._runners()  # asks the cluster, and does not wait for it
    assert one._asking is not None
    await one._asking
    await one.report("drawer", 16, (), SPENT)
    told = await one.overview()
    assert told.leads
    found: Overview = told.answer
    assert (found.leader, found.starting, found.metrics) == (one.leading.leader, 2, ["http://10.0.0.1:9/metrics"])
    assert [(drawer.name, drawer.lately.calls) for drawer in found.drawers] == [("drawer", 4)]
    assert found.leads_for_s >= 0
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301
    await one.stop()


def test_a_replica_reports_what_it_found_at_hand_since_its_last_report() -> None:
    diffuser, stats = Diffuser.__new__(Diffuser), EngineStats(1, 2, 2, 0, bases_found=3, adapters_built=1)
    diffuser._told, diffuser._live = EngineStats(0, 0, 0, 0, bases_found=1), 0
    drawer: Any = SimpleNamespace(stats=lambda: stats, close=lambda: None)
    diffuser._drawer = drawer
    assert diffuser._spent() == Spent(0, calls=1, rows=2, bases_found=2, adapters_built=1)
    assert diffuser._spent() == Spent()


def test_a_report_of_the_version_before_is_understood() -> None:
    former = Spent.__new__(Spent)
    former.__setstate__([1, 2, 3, 4.0, 5.0])
    assert former == Spent(1, 2, 3, 4.0, 5.0)
    assert pickle.loads(pickle.dumps(SPENT)) == SPENT  # noqa: S301
    assert len(fields(Spent)) > 5


def test_the_addresses_of_metrics_are_those_of_the_nodes_that_live(monkeypatch: pytest.MonkeyPatch) -> None:
    assert metrics_addresses() == []
    nodes = [
        {"NodeID": "a", "NodeManagerAddress": "10.0.0.2", "MetricsExportPort": 9, "Alive": True},
        {"NodeID": "b", "NodeManagerAddress": "fd00::1", "MetricsExportPort": 9, "Alive": True},
        {"NodeID": "c", "NodeManagerAddress": "10.0.0.3", "MetricsExportPort": 9, "Alive": False},
    ]
    monkeypatch.setattr(replica.ray, "is_initialized", lambda: True)
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    assert metrics_addresses() == ["http://10.0.0.2:9/metrics", "http://[fd00::1]:9/metrics"]
    monkeypatch.setattr("ray.nodes", lambda: [{}])
    assert metrics_addresses() == []
