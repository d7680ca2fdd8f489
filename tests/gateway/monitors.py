"""A monitor that remembers."""

from collections import Counter, defaultdict

from gateway.monitoring.contract import METRICS, Metric
from gateway.monitoring.trace import Trace

Labels = frozenset[tuple[str, str]]


class RememberingMonitor:
    """Holds the calls to the contract, and keeps what they said: by the metric's name and its labels."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, Labels]] = Counter()
        self.gauges: dict[tuple[str, Labels], float] = {}
        self.seen: defaultdict[tuple[str, Labels], list[float]] = defaultdict(list)
        self.spans: list[tuple[str, Trace, float]] = []

    def add(self, metric: Metric, value: float = 1.0, **labels: str) -> None:
        self.counts[_key(metric, "counter", labels)] += value  # type: ignore[assignment]

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        self.gauges[_key(metric, "gauge", labels)] = value

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        self.seen[_key(metric, "histogram", labels)].append(value)

    def span(self, name: str, trace: Trace, seconds: float) -> None:
        self.spans.append((name, trace, seconds))

    def count(self, metric: Metric, **labels: str) -> float:
        return self.counts[_key(metric, "counter", labels)]

    def gauge(self, metric: Metric, **labels: str) -> float:
        return self.gauges[_key(metric, "gauge", labels)]

    def observed(self, metric: Metric, **labels: str) -> list[float]:
        return self.seen[_key(metric, "histogram", labels)]


def _key(metric: Metric, kind: str, labels: dict[str, str]) -> tuple[str, Labels]:
    assert metric in METRICS
    assert metric.kind == kind
    assert {*labels} == {*metric.labels}, metric.name
    return metric.name, frozenset(labels.items())
