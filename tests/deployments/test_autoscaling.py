"""How many replicas draw: by what waits, how long it may wait, and what was measured."""

import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from ray.serve._private.common import DeploymentID, ReplicaID, TimeStampedValue
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from deployments.autoscaling import Figures, Rules, State, needed, publish, scale, target
from deployments.placement import POLICY

# a row-step takes a tenth of a second, a replica starts at once, and waits are ten seconds: 100 row-steps a replica
RULES = Rules(
    wait_s=10, low_wait_s=60, start_s=0, oldest_wait_s=20, utilisation=0.8, keep_s=30, zero_s=100, stale_s=5, most=100
)
IDLE = Figures(ms_per_row_step=100, at=1)


def waiting(row_steps: float, low: float = 0, **given: float) -> Figures:
    told: dict[str, float] = {"waiting": 1, "queued_row_steps": row_steps, "queued_low_row_steps": low}
    return replace(IDLE, **(told | given))


class Fleet:
    """Asks for a target again and again, and remembers what the answers leave."""

    def __init__(self, replicas: int = 0, rules: Rules = RULES) -> None:
        self.replicas, self.rules, self.now, self._state = replicas, rules, 1000.0, State()

    def ask(self, demand: Figures | None, after: float = 1.0) -> int:
        """The target, `after` so many seconds, with figures that are new."""
        self.now += after
        if demand is not None:
            demand = replace(demand, at=self.now)
        return self.ask_again(demand)

    def ask_again(self, demand: Figures | None) -> int:
        """The target with figures as old as they say."""
        self.replicas, self._state = target(demand, self._state, self.rules, self.now, self.replicas)
        return self.replicas


def test_from_nothing_to_all_that_the_work_takes_in_one_step() -> None:
    assert Fleet().ask(waiting(600)) == 6
    assert Fleet(rules=replace(RULES, most=4)).ask(waiting(600)) == 4


def test_one_request_however_small_takes_a_replica() -> None:
    assert Fleet().ask(waiting(0.1)) == 1
    assert Fleet().ask(replace(IDLE, held=1, held_row_steps=0.1)) == 1


def test_what_a_dispatcher_holds_without_a_replica_counts_as_work_that_waits() -> None:
    held = replace(IDLE, held=4, held_row_steps=400, claimed_row_steps=0)
    assert Fleet().ask(held) == 4
    assert needed(replace(held, claimed_row_steps=150, living=4), RULES) == 1.5


def test_what_draws_takes_no_further_replica() -> None:
    assert Fleet(2).ask(replace(IDLE, held=8, held_row_steps=800, living=2, busy=2)) == 2


def test_slower_replicas_are_more_and_unmeasured_ones_are_taken_as_set() -> None:
    assert needed(waiting(600, ms_per_row_step=200), RULES) == 12
    assert needed(waiting(600, ms_per_row_step=0), replace(RULES, ms_per_row_step=50)) == 3


def test_low_priority_may_wait_longer_and_takes_no_place_of_the_normal() -> None:
    assert needed(waiting(600, low=600), RULES) == 1
    assert needed(waiting(1200, low=600), RULES) == 6
    assert needed(waiting(6600, low=6000), RULES) == 11


def test_what_waits_for_a_replica_that_starts_slowly_is_not_to_be_done_faster_than_that() -> None:
    assert needed(waiting(600), replace(RULES, start_s=60)) == 1


def test_steady_traffic_has_replicas_that_are_not_busy_all_the_time() -> None:
    steady = replace(IDLE, arriving_row_steps_per_s=80, held=8, held_row_steps=400, living=10, busy=8)
    assert needed(steady, RULES) == pytest.approx(10)
    assert needed(replace(steady, waiting=1, queued_row_steps=300), RULES) == pytest.approx(8 + 3)


def test_traffic_that_is_over_starts_nothing() -> None:
    assert Fleet().ask(replace(IDLE, arriving_row_steps_per_s=80)) == 0


def test_a_replica_stays_until_it_was_not_needed_for_a_while() -> None:
    fleet = Fleet()
    assert fleet.ask(waiting(600)) == 6
    assert fleet.ask(waiting(400)) == 6
    assert fleet.ask(waiting(200), after=28) == 6
    assert fleet.ask(waiting(200), after=1) == 4  # the six were wanted 30 s ago, the four 29 s ago
    assert fleet.ask(waiting(200), after=1) == 2


def test_what_rises_and_falls_within_that_while_changes_nothing() -> None:
    fleet = Fleet()
    assert {fleet.ask(waiting(600 if turn % 20 == 0 else 100)) for turn in range(200)} == {6}


def test_no_replica_is_taken_away_that_draws() -> None:
    fleet = Fleet(6)
    busy = replace(IDLE, held=6, held_row_steps=60, living=6, busy=5)
    assert [fleet.ask(busy, after=each) for each in (1, 40)] == [6, 5]
    assert fleet.ask(replace(busy, busy=3)) == 3
    assert fleet.ask(replace(busy, busy=0)) == 1


def test_the_last_one_stays_longer_and_none_is_left() -> None:
    fleet = Fleet(3)
    assert fleet.ask(IDLE) == 3
    assert fleet.ask(IDLE, after=31) == 1
    assert fleet.ask(IDLE, after=60) == 1
    assert fleet.ask(IDLE, after=10) == 0
    assert fleet.ask(IDLE, after=1000) == 0


def test_there_are_never_fewer_than_the_least() -> None:
    fleet = Fleet(3, replace(RULES, least=2))
    fleet.ask(IDLE)
    assert fleet.ask(IDLE, after=1000) == 2


def test_nothing_changes_without_figures() -> None:
    fleet = Fleet(4)
    assert {fleet.ask(None, after=100) for _ in range(20)} == {4}


def test_nothing_changes_by_stale_figures_and_all_does_by_new_ones() -> None:
    fleet = Fleet(4)
    stale = replace(waiting(600), at=7)
    fleet.ask_again(replace(stale, queued_row_steps=0))
    fleet.now += 6
    assert fleet.ask_again(stale) == 4
    assert fleet.ask(stale) == 6


@pytest.mark.parametrize("off", [-3600, 3600])
def test_clocks_of_two_machines_may_differ(off: float) -> None:
    fleet = Fleet()
    for _ in range(3):
        fleet.now += 1
        fleet.ask_again(replace(waiting(600), at=fleet.now + off))
    assert fleet.replicas == 6


def test_who_begins_to_ask_ends_no_replica_at_once() -> None:
    fleet = Fleet(5)
    assert fleet.ask(waiting(100)) == 5
    assert fleet.ask(waiting(100), after=31) == 1


def test_there_are_more_once_work_has_waited_too_long_beside_replicas_that_all_draw() -> None:
    late = waiting(100, oldest_wait_s=21, living=4, busy=4)
    fleet = Fleet(4)
    assert fleet.ask(late) == 5
    assert fleet.ask(replace(late, living=5, busy=5)) == 5  # it has had no time to help
    assert fleet.ask(replace(late, living=5, busy=5), after=10) == 7


@pytest.mark.parametrize("some", [{"busy": 3}, {"living": 3, "busy": 3}, {"oldest_wait_s": 19}])
def test_a_long_wait_adds_none_where_that_would_not_help(some: dict[str, float]) -> None:
    late = waiting(100, oldest_wait_s=21, living=4, busy=4)
    assert Fleet(4).ask(replace(late, **some)) == 4


def test_what_a_key_s_limit_holds_back_starts_nothing_beside_replicas_with_room() -> None:
    held_back = waiting(60_000, oldest_wait_s=99, living=2, busy=2, room=3)
    assert Fleet(2).ask(held_back) == 2
    assert Fleet(2).ask(replace(held_back, arriving_row_steps_per_s=24)) == 3  # steady traffic is another matter
    assert Fleet(2).ask(replace(held_back, room=0)) == 100
    assert Fleet(2).ask(replace(held_back, living=1)) == 100  # the other one is still to come


def test_what_is_remembered_stays_small() -> None:
    state, replicas = State(), 0
    for turn in range(10_000):
        demand = waiting(50 * (turn % 97), at=float(turn))
        replicas, state = target(demand, state, replace(RULES, keep_s=math.inf), float(turn), replicas)
    assert len(state.peaks) <= RULES.most


NAMES = {name: DeploymentID(name=name, app_name="fooocus") for name in ("Dispatcher", "Diffuser", "Postprocessor")}
BOUNDS: dict[str, Any] = {"min_replicas": 0, "max_replicas": 6, "upscale_delay_s": 0, "downscale_delay_s": 0}


def context(
    name: str, target: int, published: Mapping[str, float] | None = None, requests: float = 0.0, **given: Any
) -> AutoscalingContext:
    """What Serve gives to a policy of one deployment. published: by its one replica, some time ago and now."""
    replica = ReplicaID(unique_id="one", deployment_id=NAMES[name])
    raw = {
        key: {replica: [TimeStampedValue(0.0, -1.0), TimeStampedValue(1.0, value)]}
        for key, value in (published or {}).items()
    }
    config = AutoscalingConfig(**BOUNDS)
    usual: dict[str, Any] = {
        "current_num_replicas": target,
        "running_replicas": [],
        "total_queued_requests": 0.0,
        "aggregated_metrics": {},
        "capacity_adjusted_min_replicas": config.min_replicas,
        "capacity_adjusted_max_replicas": config.max_replicas,
        "policy_state": {},
        "last_scale_up_time": None,
        "last_scale_down_time": None,
        "current_time": 1000.0,
        "config": config,
    }
    return AutoscalingContext(
        **usual
        | {
            "deployment_id": NAMES[name],
            "deployment_name": name,
            "app_name": "fooocus",
            "target_num_replicas": target,
            "total_num_requests": requests,
            "raw_metrics": raw,
        }
        | given
    )


def contexts(diffuser: AutoscalingContext, published: Mapping[str, float] | None) -> dict[Any, AutoscalingContext]:
    given = [context("Dispatcher", 1, published), diffuser, context("Postprocessor", 1, requests=8.0)]
    return {each.deployment_id: each for each in given}


def test_serve_sets_the_diffusers_by_the_work_and_the_others_by_their_calls() -> None:
    published = publish(waiting(600), asdict(RULES))
    decisions, states = scale(contexts(context("Diffuser", 0), published))
    assert decisions[NAMES["Diffuser"]] == 6
    assert decisions[NAMES["Postprocessor"]] == 8 / AutoscalingConfig().target_ongoing_requests
    assert all(isinstance(state, dict) for state in states.values())


def test_the_diffusers_stay_where_the_dispatcher_publishes_nothing_or_is_away() -> None:
    given = contexts(context("Diffuser", 3), None)
    assert scale(given)[0][NAMES["Diffuser"]] == 3
    del given[NAMES["Dispatcher"]]
    assert scale(given)[0][NAMES["Diffuser"]] == 3


def test_what_serve_keeps_between_two_times_is_what_the_rule_remembers() -> None:
    published = publish(waiting(600), asdict(RULES))
    _, states = scale(contexts(context("Diffuser", 0), published))
    later = context("Diffuser", 6, policy_state=states[NAMES["Diffuser"]], current_time=1003.0)
    published = publish(replace(waiting(100), at=2), asdict(RULES))
    assert scale(contexts(later, published))[0][NAMES["Diffuser"]] == 6


def test_the_last_replica_stays_while_serve_would_start_one_again() -> None:
    state = State(at=1, heard_at=999, peaks=((0.0, 0),), worked_at=0)
    published = publish(IDLE, asdict(RULES))
    for calls, left in ((0.5, 1), (0.0, 0)):
        last = context("Diffuser", 1, requests=calls, policy_state={"work": state})
        assert scale(contexts(last, published))[0][NAMES["Diffuser"]] == left


def test_the_controller_needs_nothing_of_ours(tmp_path: Path) -> None:
    """Serve pickles the policy with its module; there may be nothing of the service where the controller runs."""
    pickled = tmp_path / "policy"
    pickled.write_bytes(AutoscalingPolicy(policy_function=POLICY).get_serialized_policy_def() or b"")
    program = (
        "import sys; from ray.cloudpickle import loads; from ray.serve.config import AutoscalingConfig\n"
        f"policy = loads(open({str(pickled)!r}, 'rb').read())\n"
        "known = policy.__globals__\n"
        "figures = known['figures_in']({'at': 3.0, 'waiting': 2.0})\n"
        "rules = known['rules_in']({'rule_wait_s': 3.0}, 0, 6)\n"
        "print(known['target'](figures, known['State'](), rules, 0.0, 0)[0], policy({}))\n"
        "print([name for name in ('deployments', 'gateway', 'torch', 'sqlalchemy') if name in sys.modules])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ran.stdout.splitlines() == ["1 ({}, {})", "[]"], ran.stderr
