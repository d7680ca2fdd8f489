"""A drawing replica's word to the dispatcher: that it lives, how many requests it can hold, with which weights, and how
fast it draws."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ray import serve

from deployments.figures import Spent
from gateway.worker.capacity import REPORT_S

DISPATCHER = "Dispatcher"


async def keep_reporting(
    capacity: Callable[[], int], variants: Callable[[], tuple[str, ...]], spent: Callable[[], Spent]
) -> None:
    """Tell the Dispatcher of this replica's application all of it once a second, until cancelled."""
    context = serve.get_replica_context()
    dispatcher: Any = serve.get_deployment_handle(DISPATCHER, context.app_name)
    while True:
        answer = dispatcher.report.remote(context.replica_id.unique_id, capacity(), variants(), spent())
        # without an answer there is no dispatcher now; the next report finds it when it is back
        with suppress(Exception):
            try:
                await asyncio.wait_for(answer, REPORT_S)
            except TimeoutError:
                answer.cancel()
        await asyncio.sleep(REPORT_S)
