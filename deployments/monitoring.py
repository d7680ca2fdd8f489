"""Where the service's counts go: Ray's metrics, by the contract; and its spans, where tracing is on."""

from typing import Any

from ray.serve import metrics as of_serve
from ray.util import metrics as of_ray

from deployments.spans import record
from gateway.monitoring.contract import Metric
from gateway.monitoring.trace import Trace


class RayMonitor:
    """`gateway.monitoring.monitor.Monitor` of a replica. A metric is there from its first value on."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def add(self, metric: Metric, value: float = 1.0, **labels: str) -> None:
        if value > 0:  # Ray takes no other
            self._of(metric).inc(value, labels)

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        self._of(metric).set(value, labels)

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        self._of(metric).observe(value, labels)

    def span(self, name: str, trace: Trace, seconds: float) -> None:
        record(name, trace, seconds)

    def _of(self, metric: Metric) -> Any:
        if (made := self._made.get(metric.name)) is None:
            made = self._made[metric.name] = _made(metric)
        return made


def _made(metric: Metric) -> Any:
    # fal's have a label of their own that Serve's metrics would not let them have
    of: Any = of_ray if metric.is_fals else of_serve
    match metric.kind:
        case "counter":
            return of.Counter(metric.name, metric.meaning, metric.labels)
        case "gauge":
            return of.Gauge(metric.name, metric.meaning, metric.labels)
        case "histogram":
            return of.Histogram(metric.name, metric.meaning, [*metric.buckets], metric.labels)
