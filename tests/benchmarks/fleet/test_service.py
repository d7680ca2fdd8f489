from dataclasses import replace
from time import process_time

import numpy as np
import pytest

from benchmarks.fleet.costs import Costs, Curve
from benchmarks.fleet.scaling import ByWork, Fixed, with_bounds
from benchmarks.fleet.service import Service, saturated_rate
from benchmarks.fleet.trace import Shape, Trace, draw
from deployments.autoscaling import Rules

COSTS = Costs(Curve([(1, 40.0), (4, 100.0), (16, 320.0)]))
LIGHT = Shape(requests=3000, mean=5.0)


def alike(trace: Trace) -> Trace:
    """All of them drawn in 8 steps with one set."""
    return replace(trace, kind=np.zeros_like(trace.kind), loras=np.zeros_like(trace.loras))


def test_everything_is_drawn_once_and_paid_for() -> None:
    trace = draw(LIGHT, 1)
    outcome = Service(trace, ByWork(with_bounds(Rules(), 1, 64, COSTS)), COSTS, 8).run()
    assert outcome.row_steps == pytest.approx(trace.row_steps.sum())
    assert (outcome.ends > outcome.waits).all()
    assert (outcome.waits >= 0).all()
    assert 0 < outcome.worth <= outcome.utilisation <= 1


def test_a_request_that_meets_an_idle_replica_takes_its_calls_alone() -> None:
    trace = alike(draw(Shape(requests=1), 1))
    costs = replace(COSTS, prepare_s=0.5, fetch_s=2.0)
    outcome = Service(trace, Fixed(1), costs).run()
    assert outcome.waits[0] == pytest.approx(2.5)
    assert outcome.ends[0] == pytest.approx(2.5 + 8 * 0.04)


def test_requests_wait_for_replicas_that_start_and_these_are_paid_from_their_start() -> None:
    trace = alike(draw(Shape(requests=1), 1))
    outcome = Service(trace, ByWork(with_bounds(Rules(zero_s=0), 0, 8, COSTS)), COSTS, 0).run()
    assert 60 <= outcome.waits[0] - COSTS.fetch_s <= 61
    assert outcome.paid_s == pytest.approx(60 + COSTS.fetch_s + 8 * 0.04, abs=0.01)


def test_the_first_replicas_start_as_fast_as_is_told() -> None:
    trace = alike(draw(Shape(requests=1), 1))
    costs = replace(COSTS, starts=(3.0,))
    outcome = Service(trace, ByWork(with_bounds(Rules(zero_s=0), 0, 8, costs)), costs, 0).run()
    assert 3 <= outcome.waits[0] - costs.fetch_s <= 4


def test_unlike_requests_that_come_steadily_hardly_wait_beside_replicas_that_are_well_used() -> None:
    trace = draw(Shape(requests=6000, mean=10.0, wave=1.0), 1)
    rate = saturated_rate(trace, COSTS)
    outcome = Service(trace, ByWork(with_bounds(Rules(), 1, 64, COSTS)), COSTS, 10).run()
    assert np.percentile(outcome.waits, 95) < 10
    assert outcome.row_steps / outcome.paid_s > 0.7 * rate


def test_nobody_waits_beside_many_replicas_but_for_weights() -> None:
    outcome = Service(draw(LIGHT, 1), Fixed(64), COSTS, 64).run()
    assert outcome.waits.max() == pytest.approx(COSTS.fetch_s)
    assert outcome.misses < len(outcome.waits)


def test_keys_take_turns_behind_a_crowd_of_one() -> None:
    trace = alike(draw(Shape(requests=201), 1))
    key = np.zeros_like(trace.key)
    key[200] = 1  # the last one to come
    outcome = Service(replace(trace, at=np.zeros(201), key=key), Fixed(1), COSTS).run()
    assert (outcome.waits > outcome.waits[200]).sum() > 150


def test_a_replica_that_always_has_enough_to_do_draws_nearly_as_in_full_calls() -> None:
    full = 1000 / COSTS.curve.full_ms
    assert 0.8 * full < saturated_rate(draw(LIGHT, 1), COSTS) <= full


def test_a_million_requests_take_less_than_ten_minutes() -> None:
    began = process_time()
    Service(draw(Shape(requests=10_000), 1), Fixed(80), COSTS, 80).run()
    assert process_time() - began < 600 / 100
