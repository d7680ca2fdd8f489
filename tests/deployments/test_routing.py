"""Who is asked to take a call, in which order."""

import asyncio
from time import time
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve.request_router import RequestRouter

from deployments.routing import NEW_S, ChosenReplicaRouter, ranked


def replicas(*names: str) -> list[Any]:
    return [SimpleNamespace(replica_id=SimpleNamespace(unique_id=name)) for name in names]


def of_nothing() -> Any:
    """A router that has seen no replica."""
    router: Any = ChosenReplicaRouter.__new__(ChosenReplicaRouter)
    router._routed, router._seen = {}, set()
    return router


def asked(name: str, ago_s: float = 0.0) -> Any:
    """A call that waits for its replica. name: of the chosen one."""
    return SimpleNamespace(
        metadata=SimpleNamespace(session_id=name, internal_request_id="shared"),
        routing_context=SimpleNamespace(should_backoff=False),
        future=asyncio.Future(),
        created_at=time() - ago_s,
    )


def test_the_named_one_comes_first_and_then_the_others() -> None:
    first, second, third = fleet = replicas("a", "b", "c")
    assert ranked(fleet, "b") == [[second], [first, third]]


def test_where_the_named_one_has_gone_or_none_is_named_all_are_alike() -> None:
    fleet = replicas("a", "b")
    assert ranked(fleet, "gone") == ranked(fleet, "") == [fleet]
    assert ranked([], "a") == []
    (only,) = replicas("a")
    assert ranked([only], "a") == [[only]]


async def test_one_that_was_never_seen_is_waited_for_and_one_that_has_gone_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else what is chosen for a replica that has just started went to a full one, and the new one stood idle."""
    monkeypatch.setattr(RequestRouter, "update_replicas", lambda *_: None)
    router, (old, new, gone) = of_nothing(), replicas("old", "new", "gone")
    router.update_replicas([old, gone])
    router.update_replicas([old])
    pending = asked("new")
    assert await router.choose_replicas([old], pending) == []
    assert pending.routing_context.should_backoff
    assert await router.choose_replicas([old, new], asked("new", ago_s=NEW_S)) == [[new], [old]]
    for call in (asked("gone"), asked("new", ago_s=NEW_S), asked("")):
        assert await router.choose_replicas([old], call) == [[old]]


async def test_calls_that_share_an_id_get_the_replicas_that_were_found_for_them() -> None:
    """As those do that are made while one other call is answered."""
    router = of_nothing()
    router._seen = {"a", "b"}
    fleet = replicas("a", "b")

    async def routed(name: str) -> tuple[str, str]:
        pending = asked(name)
        metadata = pending.metadata
        (best, *_) = await router.choose_replicas(fleet, pending)
        await asyncio.sleep(0)  # others choose meanwhile
        assert router._get_pending_request_matching_internal_request_id(metadata) is pending
        assert pending.routing_context.should_backoff
        return name, best[0].replica_id.unique_id

    assert await asyncio.gather(routed("a"), routed("b")) == [("a", "a"), ("b", "b")]
