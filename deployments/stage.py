"""What every stage tells of a call: a line of its log, with the request, and what it took."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from deployments.logs import leave_out_calls_of, log_as_serve_does
from deployments.monitoring import RayMonitor
from gateway.errors import ModelError, ValidationErrors
from gateway.monitoring.contract import STAGE_SECONDS
from gateway.monitoring.monitor import Monitor
from gateway.monitoring.trace import Trace, follow, tell


class StageLog:
    """Of one replica of a stage. name: of what it does to a request. monitor: where seconds are counted."""

    def __init__(self, name: str, monitor: Monitor) -> None:
        self._name, self.monitor = name, monitor

    @classmethod
    def of(cls, method: str) -> "StageLog":
        """For the replica that this is, whose calls of `method` Serve then need not log."""
        log_as_serve_does()
        leave_out_calls_of(method)
        return cls(method, RayMonitor())

    @contextmanager
    def told(self, trace: Trace | None) -> Iterator[None]:
        """Do inside what a request asks for."""
        follow(trace)
        began, result, why = perf_counter(), "ok", ""
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            result = "cancelled"
            raise
        except (ModelError, ValidationErrors) as error:
            result, why = "refused", f": {error}"
            raise
        except BaseException as error:
            result, why = "fault", f": {error}"
            raise
        finally:
            seconds = perf_counter() - began
            self.monitor.observe(STAGE_SECONDS, seconds, stage=self._name, result=result)
            tell(self._name, seconds, "%s %s after %.3f s%s", self._name, result, seconds, why)
