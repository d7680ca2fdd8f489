"""The tables of docs/operations.md: made of the models, and true of what Serve restarts."""

from typing import Any

import pytest
from ray.serve._private.config import DeploymentConfig
from ray.serve._private.deploy_utils import get_app_code_version
from ray.serve._private.version import DeploymentVersion
from ray.serve.schema import DeploymentSchema, ServeApplicationSchema

from deployments.settings import AppSettings
from deployments.settings_table import ALL, ITSELF, NOTHING, TABLES, Options, restarts, table, written
from tests.pages import page

# of each option two values, as a config file lists them
CHANGES: dict[str, tuple[Any, Any]] = {
    "num_replicas": (1, 2),
    "autoscaling_config": ({"max_replicas": 1}, {"max_replicas": 4, "target_ongoing_requests": 8}),
    "max_ongoing_requests": (100, 200),
    "user_config": ({"capacity": 8}, {"capacity": 9}),
    "graceful_shutdown_timeout_s": (20, 30),
    "health_check_period_s": (10, 5),
    "health_check_timeout_s": (30, 20),
    "logging_config": ({"log_level": "INFO"}, {"log_level": "DEBUG"}),
    "ray_actor_options": ({"num_cpus": 1}, {"num_cpus": 2}),
    "max_surge_percent": (0, 50),
    "placement_group_bundles": ([{"CPU": 1}], [{"CPU": 2}]),
    "max_replicas_per_node": (1, 2),
    "request_router_config": ({"request_routing_stats_period_s": 1}, {"request_routing_stats_period_s": 2}),
}
OF_THE_ACTOR = {"ray_actor_options", "placement_group_bundles", "max_replicas_per_node"}


def application(args: Any = None, **options: Any) -> ServeApplicationSchema:
    given = [DeploymentSchema(name="Diffuser", **options)] if options else []
    return ServeApplicationSchema(import_path="deployments.app:build_app", args=args or {}, deployments=given)


def version(option: str, value: Any) -> DeploymentVersion:
    actor = {"ray_actor_options": None, **({option: value} if option in OF_THE_ACTOR else {})}
    config = DeploymentConfig(**({} if option in OF_THE_ACTOR else {option: value}))
    return DeploymentVersion("1", config, **actor)


def test_the_page_has_them_as_the_command_writes_them() -> None:
    assert written(page("docs/operations.md")) == page("docs/operations.md")


def test_each_key_says_what_it_is_and_what_it_restarts() -> None:
    assert {*AppSettings.model_fields} < {*TABLES}
    for name in TABLES:
        for row in table(name).splitlines()[2:]:
            key, _, told, restarted = (cell.strip() for cell in row.strip("|").split(" | "))
            assert key
            assert told
            assert restarted


@pytest.mark.parametrize("option", Options.model_fields)
def test_an_option_restarts_what_the_table_says(option: str) -> None:
    before, after = CHANGES[option]
    everything = get_app_code_version(application(**{option: before})) != get_app_code_version(
        application(**{option: after})
    )
    itself = not everything and version(option, before).requires_actor_restart(version(option, after))
    told = restarts("deployments", option)
    assert told.split(";")[0] == (ALL if everything else ITSELF if itself else NOTHING)


def test_autoscaling_that_begins_and_an_argument_that_changes_restart_everything() -> None:
    known = get_app_code_version(application())
    assert get_app_code_version(application(autoscaling_config={"max_replicas": 2})) != known
    assert get_app_code_version(application({"output": {"jpeg_quality": 80}})) != known
    assert ALL in restarts("deployments", "autoscaling_config")
    assert restarts("output", "jpeg_quality") == ALL
