"""A drawing replica goes on reporting while nobody hears it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from deployments import reporting
from deployments.figures import Spent
from deployments.leader import Told


async def test_a_dispatcher_that_is_not_there_does_not_end_the_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[Any, ...]] = []

    class Report:
        def remote(self, *told: Any) -> Any:
            heard.append(told)
            return asyncio.sleep(0, Told("leading", True))

    missing = iter([KeyError("no Dispatcher"), RuntimeError("no controller")])

    def handle(*_: object) -> Any:
        if (fault := next(missing, None)) is not None:
            raise fault
        return SimpleNamespace(report=Report())

    context = SimpleNamespace(app_name="app", replica_id=SimpleNamespace(unique_id="one"))
    monkeypatch.setattr(reporting, "REPORT_S", 0.01)
    monkeypatch.setattr(reporting.serve, "get_replica_context", lambda: context)
    monkeypatch.setattr(reporting.serve, "get_deployment_handle", handle)
    task = asyncio.create_task(reporting.keep_reporting(lambda: 8, lambda: ("base",), Spent, lambda: ()))
    async with asyncio.timeout(10):
        while not heard:  # noqa: ASYNC110 (another task's doing)
            await asyncio.sleep(0.01)
    task.cancel()
    assert heard[0] == ("one", 8, ("base",), Spent(), ())
