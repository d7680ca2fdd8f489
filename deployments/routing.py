"""How Serve is told which replica takes a call: the caller has chosen it, and Serve's own router only obeys."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

if TYPE_CHECKING:
    from ray.serve._private.common import RequestMetadata

ROUTER = "deployments.routing:ChosenReplicaRouter"
"""`request_router_class` of a deployment whose calls say where they go."""

NEW_S = 2.0  # for how long a call waits for a replica that has reported, and of which Serve has not told yet


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What a stream begins with that came from another replica than the chosen one: who this is."""

    replica: str


def to_replica(handle: Any, name: str) -> Any:
    """The handle, whose calls go to the replica of that name (`unique_id` of its id); empty for any."""
    return handle.options(session_id=name)


class ChosenReplicaRouter(RequestRouter):
    """Sends each call to the replica that its `session_id` names, and where that has gone or is full to the one of the
    others with the fewest calls. For one that it has never seen it waits a little: a replica that has just started
    reports to the dispatcher when Serve tells of it, or a moment before.

    Not by a multiplexed model's id: of these Serve keeps a list of calls that is cleared by its own routers alone.
    """

    # a chosen replica whose threads are busy is asked for longer than Serve's 0.1 s before another one is taken
    queue_len_response_deadline_s = 1.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._routed: WeakKeyDictionary[asyncio.Task[Any], PendingRequest] = WeakKeyDictionary()
        self._seen: set[str] = set()

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        self._seen |= {each.replica_id.unique_id for each in replicas}
        super().update_replicas(replicas)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Called again and again, after pauses, until one of them has taken the call."""
        if pending_request is None:
            return [candidate_replicas]
        if (task := asyncio.current_task()) is not None:
            self._routed[task] = pending_request
        # without it Serve calls this again at once
        pending_request.routing_context.should_backoff = True
        name = pending_request.metadata.session_id
        if name and name not in self._seen and time() - pending_request.created_at < NEW_S:
            return []
        return ranked(candidate_replicas, name)

    def _get_pending_request_matching_internal_request_id(
        self, request_metadata: "RequestMetadata | None" = None
    ) -> PendingRequest | None:
        """Who gets the replica that was found: the call for which this task looked for it.

        Serve goes by an id that all calls share which are made while one other call is answered, so that of two such
        that wait at once the second would wait for ever.
        """
        task = asyncio.current_task()
        routed = None if task is None else self._routed.get(task)
        return None if routed is None or routed.future.done() else routed


def ranked(candidates: Sequence[RunningReplica], name: str) -> list[list[RunningReplica]]:
    """The one of that name alone, and then the others."""
    chosen = [each for each in candidates if each.replica_id.unique_id == name]
    others = [each for each in candidates if each.replica_id.unique_id != name]
    return [each for each in (chosen, others) if each]
