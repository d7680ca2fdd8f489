"""A drawing replica's word to the dispatcher: that it lives, how many rows it draws at once, with which weights, and
how fast."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from ray import serve

from deployments.figures import Spent
from deployments.leader import LeaderHandle
from gateway.worker.capacity import REPORT_S
from pipelines.weights.at_hand import Weights

DISPATCHER = "Dispatcher"


async def keep_reporting(
    capacity: Callable[[], int],
    variants: Callable[[], tuple[str, ...]],
    spent: Callable[[], Spent],
    holds: Callable[[], tuple[Weights, ...]],
) -> None:
    """Tell the Dispatcher of this replica's application all of it once a second, until cancelled.

    Raises what asking this replica itself raises.
    """
    context = serve.get_replica_context()
    leader: LeaderHandle | None = None
    while True:
        told = context.replica_id.unique_id, capacity(), variants(), spent(), holds()
        # without an answer there is no dispatcher now; the next report finds it when it is back
        with suppress(Exception):
            leader = leader or LeaderHandle(serve.get_deployment_handle(DISPATCHER, context.app_name), REPORT_S)
            await leader.ask("report", *told)
        await asyncio.sleep(REPORT_S)
