"""cluster.yaml: what `ray up` takes, and what an operator relies on. No cloud has it here."""

import json
from pathlib import Path

import pytest
import ray
from jsonschema import ValidationError, validate

from deployments import proxy
from deployments.config_file import read
from tests.deployments.shipped import ROOT, cluster_file, most_diffusers

CONFIG = read(ROOT / "serve_config.yaml")
CONTENT = cluster_file()
TYPES = CONTENT["available_node_types"]


def test_it_is_one_that_ray_takes() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    validate(CONTENT, schema)
    with pytest.raises(ValidationError):
        validate({**CONTENT, "max_worker": 1}, schema)
    head = {**TYPES["head"], "label": {}}
    with pytest.raises(ValidationError):
        validate({**CONTENT, "available_node_types": {**TYPES, "head": head}}, schema)


def test_the_head_has_no_replica_and_only_gpu_workers_have_gpus() -> None:
    assert TYPES["head"]["resources"] == {"CPU": 0, "GPU": 0}
    assert {name: each["resources"]["GPU"] > 0 for name, each in TYPES.items()} == {
        "head": False,
        "cpu_worker": False,
        "gpu_worker": True,
    }


def test_each_kind_of_node_has_the_label_that_replicas_are_bound_by() -> None:
    assert [each["labels"] for each in TYPES.values()] == [
        {"fooocus-serve/group": group} for group in ("head", "cpu", "gpu")
    ]


def test_there_is_room_for_every_replica() -> None:
    options = {name: each for name, each in CONFIG.options.items() if name != "Diffuser"}
    least, most = (
        sum(
            each["ray_actor_options"]["num_cpus"]
            * (each.get("autoscaling_config") or {}).get(end, each.get("num_replicas", 1))
            for each in options.values()
        )
        for end in ("min_replicas", "max_replicas")
    )
    cpu, gpu = TYPES["cpu_worker"], TYPES["gpu_worker"]
    assert cpu["resources"]["CPU"] * cpu["min_workers"] >= least
    assert cpu["resources"]["CPU"] * cpu["max_workers"] >= most
    assert gpu["max_workers"] >= most_diffusers()
    diffuser = CONFIG.options["Diffuser"]["ray_actor_options"]
    assert diffuser["num_cpus"] <= gpu["resources"]["CPU"]
    assert diffuser["num_gpus"] <= gpu["resources"]["GPU"]
    assert CONTENT["max_workers"] >= cpu["max_workers"] + gpu["max_workers"]


def test_nodes_ask_for_the_token_and_the_head_keeps_what_it_must_find_again() -> None:
    options = CONTENT["docker"]["run_options"]
    assert "--env RAY_AUTH_MODE=token" in options
    assert "--env-file /etc/fooocus-serve/environment" in options
    head = CONTENT["head_start_ray_commands"][-1]
    assert "--redis-password=$REDIS_PASSWORD" in head
    assert "--dashboard-host=127.0.0.1" in head
    for start in (head, CONTENT["worker_start_ray_commands"][-1]):
        assert "--metrics-export-port=8080" in start


def test_what_the_settings_refer_to_is_brought_to_every_node_before_its_container_starts() -> None:
    gateway, family = CONFIG.settings.gateway, CONFIG.settings.drawing.family
    brought = "\n".join(CONTENT["initialization_commands"])
    assert gateway.token_secret is not None
    for reference in (gateway.token_secret, *gateway.webhook_keys):
        folder, _, name = reference.get_secret_value().removeprefix("file:").rpartition("/")
        assert f"--volume {folder}:{folder}:ro" in CONTENT["docker"]["run_options"]
        assert f" {name}" in brought
    # each by its name, for `install -d` gives the folders above the last one to root
    (made,) = (line for line in CONTENT["initialization_commands"] if f" {family.parent}" in line and "install" in line)
    assert {str(gateway.data_dir), str(family.parent)} <= {*made.split()}
    assert made.startswith("sudo install -d -o 1000 -g 1000 ")
    assert f"--volume {gateway.data_dir}:{gateway.data_dir}" in CONTENT["docker"]["run_options"]


def test_its_container_sees_the_gpus() -> None:
    # Ray adds NVIDIA's runtime, which gives an image without this variable none
    assert "--env NVIDIA_VISIBLE_DEVICES=all" in CONTENT["docker"]["run_options"]


def test_proxies_say_what_the_service_wants_where_no_gateway_answers() -> None:
    assert {*CONTENT["docker"]["run_options"]} >= {f"--env {name}={path}" for name, path in proxy.ENVIRONMENT.items()}


def test_its_image_is_in_a_registry() -> None:
    registry, _, image = CONTENT["docker"]["image"].partition("/")
    assert "." in registry
    assert ":" in image
