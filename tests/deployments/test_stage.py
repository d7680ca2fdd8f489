"""What a stage tells of a call: one line and its seconds, however it ended."""

import asyncio
import logging
from contextlib import suppress

import pytest

from deployments.stage import StageLog
from gateway.errors import ModelError, PlatformError
from gateway.monitoring.contract import STAGE_SECONDS
from gateway.monitoring.trace import Trace, followed
from tests.gateway.monitors import RememberingMonitor

TRACE = Trace("r-1", "fal-ai/fooocus", attempt=1)


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        (None, "ok"),
        (ModelError("image_too_small", "too small", ("image_url",)), "refused"),
        (PlatformError("runner_disconnected", "gone"), "fault"),
        (asyncio.CancelledError(), "cancelled"),
    ],
)
def test_a_call_has_one_line_and_is_counted_by_how_it_ended(
    fault: BaseException | None, result: str, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = RememberingMonitor()
    log = StageLog("draw", monitor)
    caplog.set_level(logging.INFO, "fooocus.requests")
    with suppress(ModelError, PlatformError, asyncio.CancelledError), log.told(TRACE):
        assert followed() == TRACE
        if fault is not None:
            raise fault
    (line,) = caplog.records
    assert line.getMessage().startswith(f"draw {result} after ")
    assert vars(line)["transition"] == "draw"
    assert len(monitor.observed(STAGE_SECONDS, stage="draw", result=result)) == 1
