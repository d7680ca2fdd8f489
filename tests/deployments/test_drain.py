"""Waiting until a node that is to go has nothing left."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from deployments import drain
from deployments.drain import details_of, empty, nodes_in

HEAD = "head"


def details(proxies: Sequence[str] = (HEAD,), **replicas: list[str]) -> Mapping[str, Any]:
    """What Serve tells of the nodes of each deployment's replicas, and of those with a proxy."""
    deployments = {name: {"replicas": [{"node_id": node} for node in nodes]} for name, nodes in replicas.items()}
    return {
        "controller_info": {"node_id": HEAD},
        "proxies": {node: {"status": "HEALTHY"} for node in proxies},
        "applications": {"fooocus": {"deployments": deployments}, "empty": {"deployments": {}}},
    }


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "LOOK_S", 0.0)


def test_the_nodes_of_replicas_of_every_deployment_are_found() -> None:
    assert nodes_in(details(Gateway=["a", "b"], Diffuser=["c"])) == {"a", "b", "c"}
    assert nodes_in(details_of(None)) == set()


def test_a_proxy_that_still_answers_somebody_keeps_its_node_and_the_controllers_own_keeps_none() -> None:
    assert nodes_in(details(["a", HEAD])) == {"a"}


def test_a_node_is_empty_when_the_last_replica_has_left_and_a_controller_that_is_away_is_waited_for() -> None:
    told: Iterator[Mapping[str, Any] | None] = iter([details(Gateway=["a", "b"]), None, details(Gateway=["b"])])

    def ask() -> Mapping[str, Any]:
        if (one := next(told)) is None:
            raise RuntimeError("the controller is away")
        return one

    assert empty("a", ask, time.time() + 60)
    assert next(told, "asked no more") == "asked no more"


def test_a_node_of_a_cluster_without_serve_is_empty_at_once() -> None:
    assert empty("a", lambda: details_of(None), time.time() + 60)


def test_what_stays_too_long_is_told() -> None:
    assert not empty("a", lambda: details(Gateway=["a"]), time.time() + 0.05)
