"""The config files that ship: what Serve would overlook in them fails here."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve._private.build_app import build_app as built
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from deployments.app import place_app
from deployments.config_file import ConfigFile, check, main, read, unknown_keys

ROOT = Path(__file__).parents[2]
FILES = ["serve_config.yaml", "serve_config.local.yaml", "serve_config.gpu.yaml"]
NAMES = {
    "Gateway",
    "Dispatcher",
    "Preprocessor",
    "PromptExpander",
    "Diffuser",
    "SafetyChecker",
    "Postprocessor",
}


DIFFUSER = 4  # its place in the lists of the files


def deployed(file: ConfigFile) -> dict[str, Any]:
    application = place_app(file.settings, file.options)
    app = built(application, name="app", make_deployment_handle=lambda deployment, _: deployment.name)
    return {deployment.name: deployment for deployment in app.deployments}


@pytest.fixture(params=FILES)
def content(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / request.param).read_text()))


def test_the_app_has_its_seven_deployments_with_valid_autoscaling(content: dict[str, Any]) -> None:
    file = check(content)
    assert file.serve.applications[0].import_path == "deployments.app:build_app"
    deployments = deployed(file)
    assert set(deployments) == NAMES
    for deployment in deployments.values():
        autoscaling = deployment._deployment_config.autoscaling_config
        if autoscaling is not None:
            AutoscalingConfig(**autoscaling.model_dump())


def test_who_waits_for_downloads_keeps_no_place_from_others_that_are_prepared(content: dict[str, Any]) -> None:
    file = check(content)
    assert file.options["Preprocessor"]["max_ongoing_requests"] >= file.gateway().capacity


def test_a_replica_may_finish_what_it_has_before_it_is_killed(content: dict[str, Any]) -> None:
    file = check(content)
    assert file.options["Dispatcher"]["graceful_shutdown_timeout_s"] > file.gateway().stop_grace_s
    if file.settings.drawing.device == "cuda":
        assert file.options["Diffuser"]["graceful_shutdown_timeout_s"] > file.settings.gateway.run_timeout_s


def test_the_proxy_outwaits_the_longest_run(content: dict[str, Any]) -> None:
    file = check(content)
    assert file.serve.http_options.request_timeout_s is not None
    assert file.serve.http_options.request_timeout_s > file.settings.gateway.run_timeout_s


@pytest.mark.parametrize(
    "path",
    [
        ("proxy_locations",),
        ("http_options", "hosts"),
        ("applications", 0, "rout_prefix"),
        ("applications", 0, "args", "drawings"),
        ("applications", 0, "args", "gateway", "capacities"),
        ("applications", 0, "deployments", DIFFUSER, "max_ongoing_request"),
        ("applications", 0, "deployments", DIFFUSER, "ray_actor_options", "num_gpu"),
        ("applications", 0, "deployments", DIFFUSER, "autoscaling_config", "min_replica"),
        ("applications", 0, "deployments", 0, "user_config", "max_wait"),
    ],
)
def test_a_misspelt_key_fails_at_every_level(path: tuple[str | int, ...]) -> None:
    content = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    place = content
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = 1
    with pytest.raises(ValueError, match=str(path[-1])):
        check(content)


def test_serve_itself_would_overlook_a_misspelt_key() -> None:
    content = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    content["http_options"]["hosts"] = 1
    ServeDeploySchema.model_validate(content)
    assert list(unknown_keys(content, ServeDeploySchema)) == ["http_options.hosts"]


def production() -> ConfigFile:
    return read(ROOT / "serve_config.yaml")


def test_the_production_file_shares_all_of_its_state_and_says_no_secret() -> None:
    gateway = production().settings.gateway
    assert gateway.local_state() == ()
    assert gateway.secrets_in_clear() == []
    assert gateway.keys == "required"


def test_in_production_only_what_draws_may_be_where_gpus_are() -> None:
    file = production()
    for name, options in file.options.items():
        actor = options["ray_actor_options"]
        if name == "Diffuser":
            assert actor["num_gpus"] == 1
        else:
            assert (actor.get("num_gpus"), actor["label_selector"]) == (None, {"fooocus-serve/group": "cpu"})
    assert {*(one.name for one in file.serve.applications[0].deployments)} == NAMES  # none has a default's place


def test_in_production_every_node_answers_and_what_can_rolls_with_a_replica_more() -> None:
    file = production()
    assert file.serve.proxy_location == "EveryNode"
    assert {name for name, options in file.options.items() if not options.get("max_surge_percent")} == {"Dispatcher"}
    assert file.options["Gateway"]["num_replicas"] >= 2


def without_keys() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    content["applications"][0]["args"]["gateway"]["keys"] = "off"
    return content


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_an_address_that_others_reach_is_refused_and_says_why(host: str) -> None:
    content = without_keys()
    content["http_options"]["host"] = host
    with pytest.raises(ValueError, match="API keys"):
        check(content)


def test_serves_default_address_is_refused_too() -> None:
    content = without_keys()
    del content["http_options"]["host"]
    with pytest.raises(ValueError, match="API keys"):
        check(content)


def test_a_file_is_read_with_absolute_paths() -> None:
    settings = read(ROOT / "serve_config.gpu.yaml").settings
    assert settings.gateway.data_dir.is_absolute()
    assert settings.drawing.family.is_absolute()
    assert settings.drawing.profiles is not None
    assert settings.drawing.profiles.is_absolute()


def test_the_file_for_gpus_draws_on_each_and_is_open_to_this_machine_alone() -> None:
    file = read(ROOT / "serve_config.gpu.yaml")
    diffuser = file.options["Diffuser"]
    assert (file.settings.drawing.device, diffuser["ray_actor_options"]["num_gpus"]) == ("cuda", 1)
    assert (diffuser["autoscaling_config"]["min_replicas"], diffuser["autoscaling_config"]["max_replicas"]) == (1, 8)
    assert file.serve.http_options.host == "127.0.0.1"


def test_a_tab_is_a_sentence_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("applications:\n\t- name: fooocus\n")
    with pytest.raises(ValueError, match=r"own\.yaml is not YAML: line 2: .*spaces, not with tabs$"):
        read(path)


def test_a_misspelt_key_is_told_with_the_nearest_one_at_every_level() -> None:
    content = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    autoscaling = content["applications"][0]["deployments"][DIFFUSER]["autoscaling_config"]
    autoscaling["min_replica"] = 1
    with pytest.raises(ValueError, match=r"autoscaling_config\.min_replica \(did you mean min_replicas\?\)"):
        check(content)
    del autoscaling["min_replica"]
    content["applications"][0]["rout_prefix"] = "/"
    with pytest.raises(ValueError, match=r"applications\.rout_prefix \(did you mean route_prefix\?\)"):
        check(content)


def test_a_diffuser_that_would_refuse_what_it_is_sent_is_told() -> None:
    content = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    content["applications"][0]["args"]["drawing"]["rows"] = 33
    with pytest.raises(ValueError, match=r"Diffuser: max_ongoing_requests is 32: set it to drawing\.rows at least"):
        check(content)


def test_a_file_is_named_with_what_is_wrong_in_it(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    content = yaml.safe_load((ROOT / "serve_config.local.yaml").read_text())
    content["applications"][0]["args"]["gateway"]["kees"] = "required"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=r"own\.yaml: the settings are wrong: gateway\.kees"):
        read(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"own\.yaml is not YAML: .* no UTF-8"):
        read(path)
    with pytest.raises(ValueError, match=r"cannot be read \(Is a directory\)"):
        read(tmp_path)


def test_yaml_that_is_wrong_otherwise_is_a_sentence_without_that(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("applications: [")
    with pytest.raises(ValueError, match="line 1: ") as told:
        read(path)
    assert "tabs" not in str(told.value)


@pytest.mark.parametrize(
    ("part", "name", "given", "says"),
    [
        ("gateway", "ledger_url", "mysql://me:hidden@host/db", "gateway.ledger_url: the ledger does not know mysql"),
        ("drawing", "device", "gpu", "drawing.device: torch knows no device 'gpu': write cuda"),
        ("gateway", "kees", "required", "gateway.kees: is no setting (did you mean keys?)"),
        ("gateway", "unlike_any", 1, "gateway.unlike_any: is no setting (docs/operations.md has them)"),
        ("gateway", "token_secret", "hidden", "gateway.token_secret: "),
    ],
)
def test_a_wrong_setting_is_a_sentence_with_its_field_and_without_secrets(
    part: str, name: str, given: object, says: str
) -> None:
    content = yaml.safe_load((ROOT / "serve_config.local.yaml").read_text())
    content["applications"][0]["args"][part][name] = given
    with pytest.raises(ValueError, match=r"^the settings are wrong: ") as told:
        check(content)
    assert says in str(told.value)
    assert len(str(told.value).splitlines()) == 1
    assert "hidden" not in str(told.value)


@pytest.mark.parametrize(
    ("part", "deployment"), [("drawing", "Diffuser"), ("checking", "SafetyChecker"), ("expanding", "PromptExpander")]
)
def test_a_gpu_that_is_not_booked_is_refused_for_the_replica_would_not_see_it(part: str, deployment: str) -> None:
    content = yaml.safe_load((ROOT / "serve_config.local.yaml").read_text())
    application = content["applications"][0]
    application["args"].setdefault(part, {})["device"] = "cuda"
    with pytest.raises(ValueError, match=rf"{part}\.device is cuda, .* set num_gpus to 1 .* of `- name: {deployment}`"):
        check(content)
    (listed,) = [one for one in application["deployments"] if one["name"] == deployment]
    listed["ray_actor_options"] = {"num_gpus": 1}
    check(content)


def test_a_file_from_before_is_told_where_things_are_now() -> None:
    content = yaml.safe_load((ROOT / "serve_config.local.yaml").read_text())
    content["applications"][0]["args"]["deployments"] = {"diffuser": {"num_gpus": 1}}
    with pytest.raises(ValueError, match=r"args\.deployments is now the list `deployments` beside args"):
        check(content)


def test_a_command_says_whether_a_file_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(ROOT / "serve_config.yaml")]) == 0
    assert main([str(tmp_path / "gone.yaml")]) == 1
    assert "gone.yaml cannot be read" in capsys.readouterr().err
    assert main([]) == 2
