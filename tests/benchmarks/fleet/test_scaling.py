import random
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.fleet.costs import Costs, Curve
from benchmarks.fleet.scaling import ByRequests, foreseen
from benchmarks.fleet.trace import Shape, draw
from deployments.autoscaling import Figures

COSTS = Costs(Curve([(16, 320.0)]), start_s=60)


def test_serves_default_policy_decides_as_serve_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.serve import autoscaling_policy
    from ray.serve.config import AutoscalingConfig

    now = 0.0
    monkeypatch.setattr(autoscaling_policy, "time", SimpleNamespace(time=lambda: now))
    decide = autoscaling_policy._apply_autoscaling_config(autoscaling_policy._core_replica_queue_length_policy)
    config = AutoscalingConfig(
        min_replicas=0, max_replicas=1000, target_ongoing_requests=8, upscale_delay_s=30, downscale_delay_s=60
    )
    ours = ByRequests(least=0, most=1000, down_s=60)
    chance = random.Random(24)
    target, running, state = 1, 1, dict[str, object]()
    requests = 0.0
    for second in range(5000):
        now = float(second)
        if chance.random() < 0.02:
            requests = chance.choice((0.0, 3.5, 40.0, 500.0, 77.0))
        running += (target > running) - (target < running) if chance.random() < 0.3 else 0
        context = SimpleNamespace(
            current_num_replicas=running,
            target_num_replicas=target,
            total_num_requests=requests,
            config=config,
            policy_state=state,
        )
        wanted, state = decide(context)
        assert ours.decide(requests, now, target, running) == wanted
        target = wanted


def test_ongoing_requests_are_told_in_their_mean_and_every_ten_seconds() -> None:
    policy = ByRequests(up_s=0.0)
    seen = [policy.target(Figures(waiting=160.0 if now >= 5 else 0.0), float(now), 1, 1) for now in range(42)]
    assert seen[9] == 1
    assert 1 < seen[10] < seen[20] < seen[30] <= seen[41] == 20


def test_a_clairvoyant_has_what_comes_told_a_start_ahead() -> None:
    trace = draw(Shape(requests=60_000, burst=10.0, burst_s=10), 1)
    plan = foreseen(trace, COSTS, 256, rate=50.0).plan
    burst = int(trace.at[-1] / 4)
    assert plan[burst - 59] > 2 * plan[burst - 70]
    assert plan.max() <= 256


def test_a_clairvoyant_keeps_what_is_wanted_again_within_a_start() -> None:
    at = np.concatenate([np.linspace(0, 10, 500), np.linspace(50, 60, 500), np.linspace(300, 310, 500)])
    trace = draw(Shape(requests=1500), 1)
    plan = foreseen(SimpleNamespace(at=at, row_steps=trace.row_steps), COSTS, 256, rate=50.0).plan  # type: ignore[arg-type]
    assert plan[:60].min() > 10
    assert plan[100:230].max() == 1
