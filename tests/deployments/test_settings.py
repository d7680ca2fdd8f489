"""The argument of the app: typed, strict, with paths that hold on other machines' working directories."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deployments.settings import AppSettings, Placement, Replication

LEAST = {"gateway": {"data_dir": "var"}, "drawing": {"family": "pocket"}}


def test_the_least_that_must_be_said_is_enough() -> None:
    settings = AppSettings.model_validate(LEAST)
    assert settings.checking.device == "cpu"
    assert settings.deployments.diffuser.options()["num_replicas"] == 1


def test_what_all_replicas_book_fits_one_core() -> None:
    placed = AppSettings.model_validate(LEAST).deployments
    assert sum(getattr(placed, name).num_cpus for name in type(placed).model_fields) <= 1


@pytest.mark.parametrize(
    "path",
    [
        ("misspelt",),
        ("gateway", "misspelt"),
        ("drawing", "misspelt"),
        ("checking", "misspelt"),
        ("deployments", "misspelt"),
        ("deployments", "dispatcher", "num_replicas"),  # there is always one
        ("deployments", "diffuser", "misspelt"),
        ("deployments", "diffuser", "autoscaling", "misspelt"),
    ],
    ids=".".join,
)
def test_an_unknown_key_fails_and_is_named(path: tuple[str, ...]) -> None:
    given: dict[str, Any] = {name: dict(part) for name, part in LEAST.items()}
    place = given
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = 1
    with pytest.raises(ValidationError) as caught:
        AppSettings.model_validate(given)
    assert [(error["type"], error["loc"]) for error in caught.value.errors()] == [("extra_forbidden", path)]


def test_autoscaling_out_of_order_fails() -> None:
    with pytest.raises(ValidationError, match="min_replicas is above max_replicas"):
        Replication.model_validate({"autoscaling": {"min_replicas": 3, "max_replicas": 2}})


def test_a_number_of_replicas_and_autoscaling_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="exclude each other"):
        Replication.model_validate({"num_replicas": 2, "autoscaling": {}})


def test_the_gateway_keeps_calls_free_for_health_or_does_not_start() -> None:
    assert AppSettings.model_validate(LEAST).deployments.gateway.options()["max_ongoing_requests"] == 500
    with pytest.raises(ValidationError, match=r"gateway\.max_ongoing_requests"):
        AppSettings.model_validate({**LEAST, "deployments": {"gateway": {"max_ongoing_requests": 99}}})


def test_a_fetch_of_weights_ends_before_its_request() -> None:
    for given in ({"weights": {"timeout_s": 600}}, {"gateway": {"data_dir": "var", "run_timeout_s": 300}}):
        with pytest.raises(ValidationError, match=r"weights\.timeout_s must be below gateway\.run_timeout_s"):
            AppSettings.model_validate(LEAST | given)


def test_options_are_those_that_serve_takes() -> None:
    from ray import serve

    given = {"num_gpus": 1, "accelerator_type": "H100", "autoscaling": {"max_replicas": 4}, "max_ongoing_requests": 7}
    deployment = serve.deployment(name="D", **Replication.model_validate(given).options())(type("D", (), {}))
    config = deployment._deployment_config
    assert config.autoscaling_config is not None
    assert (config.autoscaling_config.max_replicas, config.max_ongoing_requests) == (4, 7)
    assert deployment.ray_actor_options == {"num_cpus": 0.1, "num_gpus": 1.0, "accelerator_type": "H100"}
    assert "num_replicas" not in Placement().options()


def test_relative_paths_are_absolute_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = {"styles_folder": "styles", "wildcards_folder": "wildcards"}
    settings = AppSettings.model_validate({**LEAST, "drawing": {**LEAST["drawing"], **folders}})
    assert settings.gateway.data_dir == tmp_path / "var"
    assert settings.drawing.family == tmp_path / "pocket"
    assert settings.drawing.styles_folder == tmp_path / "styles"
    assert settings.drawing.wildcards_folder == tmp_path / "wildcards"
    lists = {"folder": "model", "allowed": ["warm"], "blocked": "words.txt"}
    expanding = AppSettings.model_validate({**LEAST, "expanding": lists}).expanding
    assert (expanding.folder, expanding.blocked) == (tmp_path / "model", tmp_path / "words.txt")
    assert expanding.allowed == ("warm",)


@pytest.mark.parametrize(
    ("part", "deployment"), [("drawing", "diffuser"), ("checking", "safety_checker"), ("expanding", "prompt_expander")]
)
def test_a_gpu_that_is_not_booked_is_refused_for_the_replica_would_not_see_it(part: str, deployment: str) -> None:
    given: dict[str, Any] = {**LEAST, part: {**LEAST.get(part, {}), "device": "cuda"}}
    with pytest.raises(
        ValidationError, match=rf"{part}\.device is cuda, .* set deployments\.{deployment}\.num_gpus to 1"
    ):
        AppSettings.model_validate(given)
    AppSettings.model_validate({**given, "deployments": {deployment: {"num_gpus": 1}}})
