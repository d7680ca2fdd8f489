"""The port by which the service counts: what runs it says where that goes."""

from typing import Protocol

from gateway.monitoring.contract import Metric
from gateway.monitoring.trace import Trace


class Monitor(Protocol):
    """Takes metrics and spans. Every method is cheap, may be called from any thread, and never raises.

    labels: all that the metric's contract names, and no others.
    """

    def add(self, metric: Metric, value: float = 1.0, **labels: str) -> None:
        """To a counter."""

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """A gauge."""

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """One value of a histogram."""

    def span(self, name: str, trace: Trace, seconds: float) -> None:
        """That something of a request has just ended, which took so long."""


class NoMonitor:
    """Where nobody watches."""

    def add(self, metric: Metric, value: float = 1.0, **labels: str) -> None:
        pass

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        pass

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        pass

    def span(self, name: str, trace: Trace, seconds: float) -> None:
        pass
