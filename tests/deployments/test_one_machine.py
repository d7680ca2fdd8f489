"""That a state which is one machine's stays on one: before the app is built, and as replicas start."""

from collections.abc import Mapping
from typing import Any

import pytest
from ray.serve.schema import DeploymentSchema

from deployments.nodes import Node
from deployments.one_machine import Home, can_host, check_nodes, settle
from deployments.placement import placed
from gateway.settings import FixedSettings

HEAD = Node("a", "10.0.0.1", {"CPU": 8.0}, {"group": "cpu"}, 8080)
WORKER = Node("b", "10.0.0.2", {"CPU": 8.0, "GPU": 1.0, "accelerator_type:L40S": 1.0}, {"group": "gpu"}, 8080)
SHARED: Mapping[str, Any] = {
    "ledger_url": "env:LEDGER_URL",
    "token_secret": "env:TOKEN_SECRET",
    "webhook_keys": ["env:WEBHOOK_KEY"],
    "files_url": "s3://bucket",
}
USERS = ("Gateway", "Dispatcher", "Preprocessor", "Postprocessor")


def settings(**given: Any) -> FixedSettings:
    return FixedSettings.model_validate({"data_dir": "/var/lib/fooocus-serve", **given})


def listed(*names: str, **options: Any) -> list[DeploymentSchema]:
    return [DeploymentSchema(name=name, ray_actor_options={"num_cpus": 1, **options}) for name in names]


@pytest.mark.parametrize("lacking", SHARED)
def test_several_nodes_that_can_host_a_state_are_refused_by_the_names_of_the_settings(lacking: str) -> None:
    given = settings(**{name: value for name, value in SHARED.items() if name != lacking})
    with pytest.raises(
        ValueError, match=rf"gateway\.{lacking} .*10\.0\.0\.1, 10\.0\.0\.2.* write gateway\.{lacking}: "
    ):
        check_nodes(given, placed([]), [HEAD, WORKER])


def test_all_settings_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"write gateway\.ledger_url.*token_secret.*webhook_keys.*files_url") as told:
        check_nodes(settings(), placed([]), [HEAD, WORKER])
    assert "label_selector" in str(told.value)
    assert len(str(told.value).splitlines()) == 1


def test_a_state_that_is_shared_may_be_used_anywhere() -> None:
    check_nodes(settings(**SHARED), placed([]), [HEAD, WORKER])


def test_one_node_needs_nothing_shared() -> None:
    check_nodes(settings(), placed([]), [HEAD])


@pytest.mark.parametrize(
    "options",
    [
        {"label_selector": {"group": "cpu"}},
        {"label_selector": {"group": "!gpu"}},
        {"label_selector": {"group": "in(cpu, other)"}},
        {"resources": {"disk": 1}},
    ],
)
def test_one_node_of_several_may_have_the_state_where_its_users_are_bound_to_it(options: dict[str, Any]) -> None:
    head = Node(HEAD.id, HEAD.address, {**HEAD.resources, "disk": 9.0}, HEAD.labels, 8080)
    check_nodes(settings(), placed(listed(*USERS, **options)), [head, WORKER])
    with pytest.raises(ValueError, match="can host"):  # one of them is bound to nothing
        check_nodes(settings(), placed(listed(*USERS[:-1], **options)), [head, WORKER])


def test_only_those_are_bound_that_use_what_is_of_one_machine() -> None:
    given = settings(**{**SHARED, "ledger_url": None})
    check_nodes(given, placed(listed("Gateway", "Dispatcher", label_selector={"group": "cpu"})), [HEAD, WORKER])


@pytest.mark.parametrize(
    ("options", "hosts"),
    [
        ({}, "ab"),
        ({"ray_actor_options": {"num_cpus": 9}}, ""),
        ({"ray_actor_options": {}}, "ab"),
        ({"ray_actor_options": {"num_gpus": 1}}, "b"),
        ({"ray_actor_options": {"num_cpus": 0, "accelerator_type": "L40S"}}, "b"),
        ({"ray_actor_options": {"label_selector": {"group": "x"}}}, ""),
        ({"ray_actor_options": {"label_selector": {"group": "x"}, "fallback_strategy": [{}]}}, "ab"),
        ({"ray_actor_options": {"num_cpus": 9}, "placement_group_bundles": [{"CPU": 5}, {"CPU": 5}]}, "ab"),
    ],
)
def test_where_a_replica_could_be(options: dict[str, Any], hosts: str) -> None:
    assert "".join(node.id for node in (HEAD, WORKER) if can_host(node, options)) == hosts


def test_a_head_without_cpus_hosts_nothing() -> None:
    check_nodes(settings(), placed([]), [Node("h", "10.0.0.9", {}, {}, 8080), HEAD])


HERE = Home("b", "10.0.0.2", "mine")
LOCAL = ["ledger_url"]


def test_the_first_replica_says_where_the_state_is() -> None:
    assert settle(None, HERE, {"b"}, LOCAL) == HERE


def test_what_is_kept_on_a_node_may_change_there() -> None:
    assert settle(Home("b", "10.0.0.2", "before"), HERE, {"b"}, LOCAL) == HERE


@pytest.mark.parametrize("identity", ["mine", "other"])
def test_a_replica_on_another_node_than_the_living_one_is_refused_even_on_a_folder_that_both_see(identity: str) -> None:
    with pytest.raises(ValueError, match=r"the node 10\.0\.0\.1, and this replica is on the node 10\.0\.0\.2: write "):
        settle(Home("a", "10.0.0.1", identity), HERE, {"a", "b"}, LOCAL)


def test_a_disk_may_come_to_another_node_when_its_own_is_gone() -> None:
    assert settle(Home("a", "10.0.0.1", "mine"), HERE, {"b"}, LOCAL) == HERE


@pytest.mark.parametrize("identity", ["other", None])
def test_a_node_with_another_disk_does_not_begin_a_second_service(identity: str | None) -> None:
    here = Home("b", "10.0.0.2", identity)
    with pytest.raises(ValueError, match=r"10\.0\.0\.1, is gone.*data_dir holds something else, or nothing"):
        settle(Home("a", "10.0.0.1", "mine"), here, {"b"}, LOCAL)
