"""What a config file lists of the deployments, and what it does not."""

from typing import Any

import pytest
from ray import serve
from ray.serve.schema import DeploymentSchema

from deployments.placement import DEFAULTS, POLICY, check_grace, check_policy, placed, read_limits
from gateway.settings import LIMITS


def listed(name: str, **options: Any) -> DeploymentSchema:
    return DeploymentSchema(name=name, **options)


def test_what_all_replicas_book_fits_one_core() -> None:
    assert sum(options["ray_actor_options"]["num_cpus"] for options in placed([]).values()) <= 1


def test_what_is_listed_wins_and_what_is_not_has_its_defaults() -> None:
    options = placed([listed("Diffuser", max_ongoing_requests=7)])
    assert options["Diffuser"]["max_ongoing_requests"] == 7
    assert options["Diffuser"]["ray_actor_options"] == {"num_cpus": 0.1, "num_gpus": 0.0}
    assert options["Dispatcher"]["health_check_period_s"] == 2
    assert {*options} == {*DEFAULTS}


@pytest.mark.parametrize(
    "given",
    [
        {"autoscaling_config": {"min_replicas": 1, "max_replicas": 4}},
        {"num_replicas": None, "autoscaling_config": {"max_replicas": 4}},
        {"num_replicas": "auto"},
        {"num_replicas": 2},
        {"logging_config": {"log_level": "DEBUG"}, "max_replicas_per_node": 1},
    ],
)
def test_the_options_are_those_that_serve_takes(given: dict[str, Any]) -> None:
    options = placed([listed("Diffuser", **given)])["Diffuser"]
    serve.deployment(name="Diffuser", **options)(type("Diffuser", (), {}))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([listed("Difuser")], "the app has no Difuser (did you mean Diffuser?)"),
        ([listed("Painter")], "the app has no Painter (there are Gateway, Dispatcher, "),
        ([listed("Gateway"), listed("Gateway")], "Gateway is listed twice"),
        ([listed("Dispatcher", num_replicas="auto")], "Dispatcher has as many replicas as are told"),
        ([listed("Dispatcher", autoscaling_config={"max_replicas": 2})], "with max_replicas equal to min_replicas"),
        (
            [listed("Dispatcher", autoscaling_config={"min_replicas": 0, "max_replicas": 1})],
            "with max_replicas equal to min_replicas",
        ),
        (
            [listed("Dispatcher", user_config={"scaling": {"wait": 3}})],
            "scaling.wait: is no limit that may change while it runs (did you mean wait_s?)",
        ),
        ([listed("Gateway", max_ongoing_requests=99)], "max_ongoing_requests is 99, and 100 are the least"),
        (
            [listed("Diffuser", autoscaling_config={"min_replicas": 3, "max_replicas": 2})],
            "Diffuser: autoscaling_config",
        ),
        ([listed("Diffuser", user_config={"rows": 3})], "Diffuser takes no user_config"),
        (
            [listed("Gateway", user_config={"max_wating": 3})],
            "max_wating: is no limit that may change while it runs (did",
        ),
        (
            [listed("Gateway", user_config={"max_waiting": 0})],
            "user_config of Gateway is wrong: max_waiting: Input should",
        ),
        ([listed("Gateway", user_config={"capacity": 3})], "capacity: is no limit"),
        (
            [listed("Dispatcher", graceful_shutdown_timeout_s=15)],
            "graceful_shutdown_timeout_s is 15: set it above stop_gr",
        ),
        ([listed("Dispatcher", user_config={"stop_grace_s": 20})], "graceful_shutdown_timeout_s is 20: set it above"),
    ],
)
def test_what_cannot_be_is_a_sentence_with_its_name(given: list[DeploymentSchema], says: str) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011 (the whole sentence is looked at)
        placed(given)
    assert says in str(told.value)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize(
    "given",
    [
        {"num_replicas": 2, "max_replicas_per_node": 1},
        {"autoscaling_config": {"min_replicas": 2, "max_replicas": 2}},
        {"autoscaling_config": {"min_replicas": 2, "max_replicas": 2, "initial_replicas": 2}},
    ],
)
def test_a_second_dispatcher_may_stand_by(given: dict[str, Any]) -> None:
    options = placed([listed("Dispatcher", **given)])["Dispatcher"]
    serve.deployment(name="Dispatcher", **options)(type("Dispatcher", (), {}))


@pytest.mark.parametrize("name", LIMITS)
def test_limits_that_are_listed_no_more_are_told_to_the_replica(name: str) -> None:
    assert placed([])[name]["user_config"] == {}
    assert read_limits(name, {}) == LIMITS[name]()


def test_a_dispatcher_is_not_ended_within_its_grace() -> None:
    check_grace(5.0, 6.0)
    with pytest.raises(ValueError, match="graceful_shutdown_timeout_s is 5"):
        check_grace(5.0, 5.0)


PUBLISHING = {"min_replicas": 1, "max_replicas": 1, "metrics_interval_s": 1, "look_back_period_s": 5}
FOLLOWING = {"min_replicas": 0, "max_replicas": 6, "upscale_delay_s": 0, "downscale_delay_s": 0}


def with_policy(dispatcher: dict[str, Any] | None, diffuser: dict[str, Any] | None, **limits: Any) -> None:
    of_dispatcher = {} if dispatcher is None else {"autoscaling_config": dispatcher}
    of_diffuser = {} if diffuser is None else {"autoscaling_config": diffuser}
    given = [listed("Dispatcher", user_config=limits, **of_dispatcher), listed("Diffuser", **of_diffuser)]
    check_policy({"policy_function": POLICY}, placed(given))


def test_the_policy_has_its_figures_and_acts_by_itself() -> None:
    with_policy(PUBLISHING, FOLLOWING)
    check_policy({"policy_function": "another:policy"}, placed([]))
    check_policy({}, placed([]))


@pytest.mark.parametrize(
    ("dispatcher", "diffuser", "says"),
    [
        (None, FOLLOWING, "give the Dispatcher an autoscaling_config with max_replicas equal to min_rep"),
        (PUBLISHING, None, "give the Diffuser an autoscaling_config"),
        ({"min_replicas": 1, "max_replicas": 1}, FOLLOWING, "metrics_interval_s is 10: set it to half of scaling.st"),
        (PUBLISHING, {"max_replicas": 6}, "write upscale_delay_s: 0 and downscale_delay_s: 0"),
        (PUBLISHING, FOLLOWING | {"initial_replicas": 1}, "leave out initial_replicas"),
        (PUBLISHING, FOLLOWING | {"downscale_to_zero_delay_s": 60}, "waits by itself before it takes"),
    ],
)
def test_a_policy_without_figures_or_one_that_would_act_late_is_refused(
    dispatcher: dict[str, Any] | None, diffuser: dict[str, Any] | None, says: str
) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011 (the whole sentence is looked at)
        with_policy(dispatcher, diffuser)
    assert says in str(told.value)
    assert len(str(told.value).splitlines()) == 1


def test_slow_figures_are_no_stale_ones_where_that_is_said() -> None:
    with_policy(PUBLISHING | {"metrics_interval_s": 10, "look_back_period_s": 30}, FOLLOWING, scaling={"stale_s": 30})
