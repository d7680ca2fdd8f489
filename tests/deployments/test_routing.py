"""Who is asked to take a call, in which order."""

import asyncio
from types import SimpleNamespace
from typing import Any

from deployments.routing import ChosenReplicaRouter, ranked


def replicas(*names: str) -> list[Any]:
    return [SimpleNamespace(replica_id=SimpleNamespace(unique_id=name)) for name in names]


def test_the_named_one_comes_first_and_then_the_others() -> None:
    first, second, third = fleet = replicas("a", "b", "c")
    assert ranked(fleet, "b") == [[second], [first, third]]


def test_where_the_named_one_has_gone_or_none_is_named_all_are_alike() -> None:
    fleet = replicas("a", "b")
    assert ranked(fleet, "gone") == ranked(fleet, "") == [fleet]
    assert ranked([], "a") == []
    (only,) = replicas("a")
    assert ranked([only], "a") == [[only]]


async def test_calls_that_share_an_id_get_the_replicas_that_were_found_for_them() -> None:
    """As those do that are made while one other call is answered."""
    router: Any = ChosenReplicaRouter.__new__(ChosenReplicaRouter)
    router._routed = {}
    fleet = replicas("a", "b")

    async def routed(name: str) -> tuple[str, str]:
        metadata = SimpleNamespace(session_id=name, internal_request_id="shared")
        pending = SimpleNamespace(
            metadata=metadata, routing_context=SimpleNamespace(should_backoff=False), future=asyncio.Future()
        )
        (best, *_) = await router.choose_replicas(fleet, pending)
        await asyncio.sleep(0)  # others choose meanwhile
        assert router._get_pending_request_matching_internal_request_id(metadata) is pending
        assert pending.routing_context.should_backoff
        return name, best[0].replica_id.unique_id

    assert await asyncio.gather(routed("a"), routed("b")) == [("a", "a"), ("b", "b")]
