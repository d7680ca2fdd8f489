"""The deployments that touch the ledger, with their statements counted."""

from typing import Any

from benchmarks.serving.statements import count_statements
from deployments.dispatcher import Dispatcher as ServedDispatcher
from deployments.gateway import Gateway as ServedGateway


class Gateway(ServedGateway):
    """The service's own, counted."""

    async def __init__(self, *arguments: Any, **named: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        count_statements()
        await super().__init__(*arguments, **named)


class Dispatcher(ServedDispatcher):
    """The service's own, counted."""

    async def __init__(self, *arguments: Any, **named: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        count_statements()
        await super().__init__(*arguments, **named)
