"""The benchmark of the overhead: what it counts of a ledger, and how it judges what it found."""

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.ledger_depth import measure_postgresql, measure_sqlite, touched
from benchmarks.overhead import Mode, Want, depth_wants
from benchmarks.serving.calls import is_completed
from benchmarks.serving.measuring import KINDS
from benchmarks.serving.usage import whose_title
from tests.gateway.ledger.postgresql import serving

DEPTHS = (12, 40)
CALLS = ["submit", "status of the last", "look for 50 listeners"]
MILLISECONDS = {"bare": 5, "chain": 50, "sync": 60, "queue": 150}


def spell(count: int, each_s: float) -> dict[str, Any]:
    """Requests that took as long each, and CPU of half of that in either place."""
    cpu = dict.fromkeys(("bare", "chain", "service", "proxy", "service/Gateway", "chain/Ingress"), count * each_s / 2)
    return {"seconds": [each_s] * count, "wall_s": count * each_s, "cpu_s": cpu, "statements": 3 * count}


@pytest.fixture
def mode() -> Mode:
    spells = {
        kind: {"alone": spell(20, MILLISECONDS[kind] / 1000), "together": spell(64, MILLISECONDS[kind] / 1000)}
        for kind in KINDS
    }
    idle = {
        "cpu_share": {
            "bare": 0.01,
            "chain": 0.04,
            "service": 0.06,
            "proxy": 0.01,
            "ray": 0.2,
            "service/Gateway": 0.06,
            "chain/Ingress": 0.04,
        },
        "statements_per_s": 1.5,
    }
    return Mode("default", {"rounds": [spells], "idle": idle, "replicas": {"bare": 1, "chain": 4, "service": 7}})


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with serving() as server:
        yield server.create("overhead")


def test_sqlite_s_steps_are_counted_at_each_depth() -> None:
    found = measure_sqlite(DEPTHS)
    assert list(found) == CALLS
    assert all(len(costs) == len(DEPTHS) and min(costs) > 20 for costs in found.values())


def test_postgresql_s_rows_are_counted_at_each_depth(database: str) -> None:
    found = measure_postgresql(database, DEPTHS)
    assert list(found) == CALLS
    assert all(len(costs) == len(DEPTHS) and min(costs) >= 1 for costs in found.values())


def test_rows_that_a_scan_throws_away_are_touched() -> None:
    scan = {"Node Type": "Seq Scan", "Actual Rows": 2, "Rows Removed by Filter": 7, "Actual Loops": 3}
    assert touched({"Node Type": "Aggregate", "Actual Rows": 1, "Actual Loops": 1, "Plans": [scan]}) == 27


def test_a_mode_is_told_beside_the_chain(mode: Mode) -> None:
    queue = next(row for row in mode.requests().rows if row["request"] == "queue")
    assert queue["p50 / chain"] == pytest.approx(3)
    assert queue["a second / chain"] == pytest.approx(1 / 3)
    assert queue["CPU ms"] == pytest.approx(150)
    assert queue["statements"] == 3


def test_cpu_is_told_by_process(mode: Mode) -> None:
    rows = {row["process"]: row for row in mode.processes().rows}
    assert [*rows] == ["Gateway", "Ingress", "proxy"]
    assert (rows["Gateway"]["chain"], rows["Gateway"]["sync"]) == (None, pytest.approx(30))
    assert (rows["Ingress"]["chain"], rows["Ingress"]["queue"]) == (pytest.approx(25), None)
    assert rows["proxy"]["queue"] == pytest.approx(75)


def test_idle_cpu_is_told_of_a_replica(mode: Mode) -> None:
    service = next(row for row in mode.idle().rows if row["application"] == "service")
    assert service["CPU / chain"] == pytest.approx(1.5)
    assert service["CPU % of a replica"] == pytest.approx(6 / 7)


def test_what_is_wanted_says_whether_it_is_met(mode: Mode) -> None:
    met = {want.row()["what"]: want.row()["met"] for want in mode.wants()}
    assert met == {
        "default: p50 of a queue request / chain": "no",
        "default: p50 of a sync request / chain": "yes",
        "default: sync requests a second / chain": "yes",
        "default: queue requests a second / chain": "no",
        "default: CPU of the idle service / chain": "no",
        "default: statements a second of the idle service": "yes",
    }


def test_a_cost_may_grow_by_a_fifth_with_the_queue() -> None:
    wants: list[Want] = [*depth_wants("steps", {"submit": [100, 119], "status": [100, 121]})]
    assert [want.row()["met"] for want in wants] == ["yes", "no"]


@pytest.mark.parametrize(
    ("title", "whose"),
    [
        ("ray::ServeReplica:chain:Diffuser", "chain/Diffuser"),
        ("ray::ServeReplica:chain:Diffuser" + 40 * " ", "chain/Diffuser"),
        ("ray::ServeReplica:service:Gateway.handle_request_with_rejection", "service/Gateway"),
        ("ray::ProxyActor.receive_asgi_messages", "proxy"),
        ("ray::ServeController.listen_for_change", "ray"),
    ],
)
def test_a_process_is_known_by_its_title(title: str, whose: str) -> None:
    assert whose_title(title) == whose


def test_a_stream_says_when_its_request_has_ended() -> None:
    assert not is_completed(b'data: {"status": "IN_PROGRESS"}\n')
    assert not is_completed(b": keep-alive\n")
    assert is_completed(b'data: {"status": "COMPLETED"}\n')


def test_a_request_that_failed_is_not_measured() -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        is_completed(b'data: {"status": "COMPLETED", "error": "no such thing"}\n')
