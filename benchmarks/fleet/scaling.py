"""Who says how many replicas there are: the service's policy, Serve's default one, a fixed number, a clairvoyant."""

import math
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.fleet.costs import Costs
from benchmarks.fleet.trace import Trace
from deployments.autoscaling import Figures, Rules, State, target


class Scales(Protocol):
    """Asked once a second. replicas: how many there should have been until now; running: of them, those that draw or
    could."""

    @property
    def name(self) -> str: ...

    def target(self, figures: Figures, now: float, replicas: int, running: int) -> int: ...


@dataclass
class ByWork:
    """The service's own policy."""

    rules: Rules
    name: str = "by work (ours)"
    state: State = field(default_factory=State)

    def target(self, figures: Figures, now: float, replicas: int, running: int) -> int:
        wanted, self.state = target(figures, self.state, self.rules, now, replicas)
        return wanted


@dataclass(frozen=True)
class Fixed:
    """Always the same number."""

    number: int
    name: str = "fixed"

    def target(self, figures: Figures, now: float, replicas: int, running: int) -> int:
        return self.number


@dataclass
class ByRequests:
    """What Serve does without a policy (`ray.serve.autoscaling_policy`), of which a test says that it is the same.

    Ongoing requests, those that wait included, in the mean of `look_back_s`, as handles push them every `push_s`, over
    `per_replica`; up after that was wanted for `up_s`, down after `down_s`.
    """

    per_replica: float = 8.0
    least: int = 1
    most: int = 256
    up_s: float = 30.0
    down_s: float = 600.0
    look_back_s: float = 30.0
    push_s: float = 10.0
    name: str = "by ongoing requests (Serve's default)"
    _seen: deque[tuple[float, float]] = field(default_factory=deque)
    _pushed_at: float = -math.inf
    _mean: float = 0.0
    _direction: int = 0
    _since: float | None = None

    def target(self, figures: Figures, now: float, replicas: int, running: int) -> int:
        self._seen.append((now, figures.waiting + figures.held))
        while self._seen[0][0] < now - self.look_back_s:
            self._seen.popleft()
        if now - self._pushed_at >= self.push_s:
            self._pushed_at = now
            self._mean = sum(number for _, number in self._seen) / len(self._seen)
        return self.decide(self._mean, now, replicas, running)

    def decide(self, requests: float, now: float, replicas: int, running: int) -> int:
        """By the mean of ongoing requests."""
        if running == 0:
            return max(self.least, 1, replicas) if requests > 0 else replicas
        desired = math.ceil(running + (running * (requests / (self.per_replica * running)) - running))
        wanted = self._delayed(max(0, desired), now, replicas)
        return max(self.least, min(self.most, wanted))

    def _delayed(self, desired: int, now: float, replicas: int) -> int:
        direction = (desired > replicas) - (desired < replicas)
        if direction == 0 or direction != self._direction:
            self._direction, self._since = direction, None
        if direction == 0:
            return replicas
        if direction < 0 and replicas > 1:
            desired = max(1, desired)
        self._since = now if self._since is None else self._since
        if now - self._since + 1e-6 < (self.up_s if direction > 0 else self.down_s):
            return replicas
        self._direction, self._since = 0, None
        return desired


@dataclass(frozen=True)
class Clairvoyant:
    """Knows what comes, and the cost of starting: from when on how many are wanted, by the second."""

    plan: NDArray[np.int64]
    name: str = "clairvoyant"

    def target(self, figures: Figures, now: float, replicas: int, running: int) -> int:
        return int(self.plan[min(int(now), len(self.plan) - 1)])


def foreseen(trace: Trace, costs: Costs, most: int, rate: float, within_s: int = 10) -> Clairvoyant:
    """As few as do the work of each second within the next `within_s`, at `rate` row-steps a second of a replica, told
    a start ahead.

    Whatever is not wanted for shorter than a start takes is kept, for starting it again would cost more.
    """
    seconds = int(trace.at[-1]) + within_s + 2
    work = np.bincount(trace.at.astype(np.int64), weights=trace.row_steps, minlength=seconds)
    needed, behind = np.zeros(seconds), 0.0
    spread = np.convolve(work, np.ones(within_s) / within_s)[:seconds]  # of each second's work, over those that follow
    for second in range(seconds):
        behind += spread[second]
        needed[second] = min(most, math.ceil(behind / rate - 1e-9))
        behind = max(0.0, behind - needed[second] * rate)
    return Clairvoyant(_ahead(needed.astype(np.int64), math.ceil(costs.start_s)))


def _ahead(needed: NDArray[np.int64], start_s: int) -> NDArray[np.int64]:
    """Wanted a start earlier, gaps that are shorter than a start filled."""
    wanted = needed.copy()
    for level in range(1, int(needed.max(initial=0)) + 1):
        on = np.flatnonzero(needed >= level)
        for begins in np.flatnonzero(np.diff(on) > 1):
            if on[begins + 1] - on[begins] <= start_s:
                gap = slice(int(on[begins]), int(on[begins + 1]))
                wanted[gap] = np.maximum(wanted[gap], level)
    ahead = np.lib.stride_tricks.sliding_window_view(np.pad(wanted, (0, start_s), mode="edge"), start_s + 1).max(axis=1)
    return np.asarray(np.maximum(1, ahead[: len(wanted)]), np.int64)


def with_bounds(rules: Rules, least: int, most: int, costs: Costs) -> Rules:
    """The rules of a service whose replicas cost this."""
    return replace(rules, least=least, most=most, start_s=costs.start_s, ms_per_row_step=costs.curve.full_ms)
