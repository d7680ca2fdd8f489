"""How many replicas should draw, by the work that waits: a rule without Ray, and the policy by which Serve asks it.

The policy runs in Serve's controller, ten times a second. All that it knows, the Dispatcher publishes
(`deployments.figures`): it reads no database, holds no secret, and waits for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve._private.common import DeploymentID
    from ray.serve.config import AutoscalingContext

DIFFUSER, DISPATCHER = "Diffuser", "Dispatcher"
RULE = "rule_"  # before the names of rules among the published figures
REMEMBERED = "work"  # among what Serve keeps for a policy
GROWTH = 0.25  # by how much there are more replicas once work has waited too long


@dataclass(frozen=True, slots=True)
class Figures:
    """What there is to do, in row-steps (`pipelines.row_steps`) and seconds.

    queued_row_steps: of all that waits in the ledger; queued_low_row_steps: the part of it with low priority.
    held_row_steps: of all that a dispatcher holds; claimed_row_steps: the part of it that has not begun. waiting, held:
    how many these are. oldest_wait_s: of what waits with normal priority. arriving_row_steps_per_s: what has come
    steadily. ms_per_row_step: what one takes at a full replica, 0 where none is known. living: replicas that report;
    busy: those of them that draw. room: requests more that would be placed at once, so that what waits beside it is
    held back by something else, as its key's limit. at: when this was counted, in seconds since 1970.
    """

    queued_row_steps: float = 0.0
    queued_low_row_steps: float = 0.0
    held_row_steps: float = 0.0
    claimed_row_steps: float = 0.0
    waiting: float = 0.0
    held: float = 0.0
    oldest_wait_s: float = 0.0
    arriving_row_steps_per_s: float = 0.0
    ms_per_row_step: float = 0.0
    living: float = 0.0
    busy: float = 0.0
    room: float = 0.0
    at: float = 0.0

    @property
    def some(self) -> bool:
        """Whether there is anything to do."""
        return self.waiting + self.held > 0


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator wants, in seconds.

    wait_s, low_wait_s: in how long what waits should have begun, by priority. start_s: how long a replica takes to
    start; what waits for one is not to be done faster than that. oldest_wait_s: nothing of normal priority should wait
    longer while all replicas draw; there are more once it does. utilisation: the share that steady traffic should take
    of what full replicas do. keep_s: how long a replica is kept that is not needed now; zero_s: likewise the last
    one. ms_per_row_step: until it is measured. stale_s: after so long without new figures nothing changes.
    least, most: replicas.
    """

    wait_s: float = 10.0
    low_wait_s: float = 60.0
    start_s: float = 60.0
    oldest_wait_s: float = 120.0
    utilisation: float = 0.9
    keep_s: float = 300.0
    zero_s: float = 900.0
    ms_per_row_step: float = 20.0
    stale_s: float = 10.0
    least: int = 0
    most: int = 1


@dataclass(frozen=True, slots=True)
class State:
    """What the rule remembers from one time to the next; instants by the clock of whoever asks.

    at: of the newest figures, and heard_at: when they came. peaks: when how many replicas were last wanted, later ones
    fewer. worked_at: when there last was something to do. raised_at: when there last were more because of a long wait.
    """

    at: float = -math.inf
    heard_at: float = -math.inf
    peaks: tuple[tuple[float, int], ...] = ()
    worked_at: float = -math.inf
    raised_at: float = -math.inf


def target(demand: Figures | None, state: State, rules: Rules, now: float, replicas: int) -> tuple[int, State]:
    """How many replicas there should be. replicas: how many there should have been until now, which stays without
    figures and with stale ones. `at` is only compared with itself, for two machines' clocks differ.
    """
    if demand is None:
        return replicas, state
    if demand.at != state.at:
        state = replace(state, at=demand.at, heard_at=now)
    if now - state.heard_at > rules.stale_s:
        return replicas, state
    if not state.peaks:  # the controller, or what it is to do, is new: what is there is not to end for that
        state = replace(state, peaks=((now, replicas),), worked_at=now)
    if demand.some:
        state = replace(state, worked_at=now)
    wanted = math.ceil(needed(demand, rules) - 1e-9)
    if not demand.some:
        wanted = min(wanted, replicas)  # nothing is started for traffic that was
    if _has_room(demand, replicas):  # nor for what would not begin there
        wanted = min(wanted, max(replicas, math.ceil(_steady(demand, rules) / rules.utilisation - 1e-9)))
    if _waits_too_long(demand, rules, replicas) and now - state.raised_at > rules.start_s + rules.wait_s:
        wanted = max(wanted, replicas + math.ceil(replicas * GROWTH))
        state = replace(state, raised_at=now)
    wanted = max(rules.least, min(rules.most, wanted))
    state = replace(state, peaks=_with_peak(state.peaks, now, wanted, rules.keep_s))
    kept = state.peaks[0][1]
    if kept < replicas:
        kept = max(kept, min(replicas, int(demand.busy)))  # what draws is not taken away
    if kept == 0 and now - state.worked_at < rules.zero_s:
        kept = min(1, replicas)
    return max(rules.least, min(rules.most, kept)), state


def needed(demand: Figures, rules: Rules) -> float:
    """How many replicas the work takes, as a fraction.

    As many as steady traffic fills to their share; and beyond what it fills wholly, as many as let the rest begin in
    time. What draws already counts for nothing more: no other replica could take it over.
    """
    seconds, steady = _seconds(demand, rules), _steady(demand, rules)
    low = demand.queued_low_row_steps * seconds
    # without a replica nothing has begun, whatever its state is
    unbegun = demand.claimed_row_steps if demand.living else demand.held_row_steps
    every = (demand.queued_row_steps + unbegun) * seconds
    soon = (every - low) / max(rules.wait_s, rules.start_s)
    later = every / max(rules.low_wait_s, rules.start_s)
    wanted = max(steady / rules.utilisation, steady + soon, steady + later)
    return max(1.0, wanted) if demand.some else wanted


def _seconds(demand: Figures, rules: Rules) -> float:
    return (demand.ms_per_row_step or rules.ms_per_row_step) / 1000


def _steady(demand: Figures, rules: Rules) -> float:
    """How many replicas steady traffic keeps full."""
    return demand.arriving_row_steps_per_s * _seconds(demand, rules)


def _has_room(demand: Figures, replicas: int) -> bool:
    return demand.room >= 1 and demand.living >= replicas


def _waits_too_long(demand: Figures, rules: Rules, replicas: int) -> bool:
    """Whether what waits has waited too long for replicas. What waits beside idle ones, or while some are still to
    come, would not begin sooner with more."""
    drawing = min(demand.living, demand.busy) >= replicas > 0 and not _has_room(demand, replicas)
    return demand.oldest_wait_s > rules.oldest_wait_s and drawing


def _with_peak(
    peaks: Sequence[tuple[float, int]], now: float, wanted: int, keep_s: float
) -> tuple[tuple[float, int], ...]:
    """With what is wanted now: a number stays until it was not wanted for `keep_s`, the greatest first."""
    kept = [(at, number) for at, number in peaks if number > wanted and now - at < keep_s]
    return (*kept, (now, wanted))


def scale(
    contexts: dict[DeploymentID, AutoscalingContext],
) -> tuple[dict[DeploymentID, int | float], dict[DeploymentID, dict[str, Any]]]:
    """The application policy: `autoscaling_policy: {policy_function: "deployments.autoscaling:scale"}` in the file.

    The Diffuser follows the work; every other deployment that has an autoscaling_config its ongoing requests, as Serve
    does without a policy.
    """
    # here, for Serve pickles this module by value, for its controller
    from ray.serve.autoscaling_policy import replica_queue_length_autoscaling_policy

    decisions: dict[DeploymentID, int | float] = {}
    states: dict[DeploymentID, dict[str, Any]] = {}
    published = next((published_by(each) for name, each in contexts.items() if name.name == DISPATCHER), {})
    for name, context in contexts.items():
        if name.name != DIFFUSER:
            decisions[name], states[name] = replica_queue_length_autoscaling_policy(context)
            continue
        rules = rules_in(published, context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas)
        state = context.policy_state.get(REMEMBERED, State())
        now, before = context.current_time or 0.0, context.target_num_replicas
        wanted, state = target(figures_in(published), state, rules, now, before)
        if wanted == 0 < before and context.total_num_requests > 0:
            wanted = 1  # of calls that Serve remembers it would start one again, for as long as it does
        decisions[name], states[name] = wanted, {REMEMBERED: state}
    return decisions, states


def published_by(dispatcher: AutoscalingContext) -> dict[str, float]:
    """The newest figures of the Dispatcher; empty where there are none. While it is replaced there may be those of
    two."""
    by_replica: dict[object, dict[str, float]] = {}
    for name, series in (dispatcher.raw_metrics or {}).items():
        for replica, points in series.items():
            if points:
                by_replica.setdefault(replica, {})[str(name)] = points[-1].value
    told = [each for each in by_replica.values() if "at" in each]
    return max(told, key=lambda each: each["at"], default={})


def figures_in(published: Mapping[str, float]) -> Figures | None:
    """None where nothing was published."""
    if "at" not in published:
        return None
    return Figures(**{each.name: published[each.name] for each in fields(Figures) if each.name in published})


def rules_in(published: Mapping[str, float], least: int, most: int) -> Rules:
    """The published ones, and the bounds of the deployment."""
    told: dict[str, Any] = {each.name: published.get(RULE + each.name, each.default) for each in fields(Rules)}
    return Rules(**told | {"least": least, "most": most})


def publish(figures: Figures, rules: Mapping[str, float]) -> dict[str, float]:
    """As `figures_in` and `rules_in` read them, flat, as Serve carries them."""
    return {**asdict(figures), **{RULE + name: value for name, value in rules.items()}}
