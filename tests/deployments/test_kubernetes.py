"""The files in kubernetes/: fields that Kubernetes knows, and what an operator relies on. No cluster has them here."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from deployments import proxy
from deployments.config_file import ConfigFile, read
from deployments.kubernetes_form import FIELD, written
from tests.deployments.shipped import (
    ROOT,
    manifests,
    most_diffusers,
    pod_template_schema,
    rayservice,
    rayservice_schema,
)

NAME = "app.kubernetes.io/name"
CONFIG = ROOT / "serve_config.yaml"
FILES = sorted(path.name for path in (ROOT / "kubernetes").glob("*.yaml"))
SERVICE = rayservice()
CLUSTER = SERVICE["spec"]["rayClusterConfig"]
HEAD = CLUSTER["headGroupSpec"]
WORKERS = {group["groupName"]: group for group in CLUSTER["workerGroupSpecs"]}
GROUPS = {"head": HEAD, **WORKERS}


def pod(group: str) -> dict[str, Any]:
    found: dict[str, Any] = GROUPS[group]["template"]["spec"]
    return found


def container(group: str) -> dict[str, Any]:
    (found,) = pod(group)["containers"]
    return dict(found)


@cache
def config() -> ConfigFile:
    return read(ROOT / "serve_config.yaml")


def all_objects() -> list[dict[str, Any]]:
    return [each for name in FILES if not name.startswith("kustomiz") for each in manifests(name)]


def inside(value: Any, key: str) -> Iterator[Any]:
    """Every value of a key, at whatever depth."""
    if isinstance(value, dict):
        if key in value:
            yield value[key]
        for each in value.values():
            yield from inside(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from inside(each, key)


def faults(value: Any, schema: Mapping[str, Any]) -> list[str]:
    return [each.message for each in Draft7Validator(schema).iter_errors(value)]


def test_kuberay_knows_every_field() -> None:
    Draft7Validator.check_schema(rayservice_schema())
    assert faults(SERVICE, rayservice_schema()) == []


@pytest.mark.parametrize(
    "path",
    [
        ("spec",),
        ("spec", "rayClusterConfig", "gcsFaultToleranceOptions"),
        ("spec", "rayClusterConfig", "workerGroupSpecs", 0),
        ("spec", "rayClusterConfig", "workerGroupSpecs", 0, "template", "spec", "containers", 0, "lifecycle"),
    ],
)
def test_a_field_that_it_does_not_know_would_be_found(path: tuple[str | int, ...]) -> None:
    service = json.loads(json.dumps(SERVICE))  # without the file's aliases, which are one object
    place = service
    for step in path:
        place = place[step]
    place["mispelt"] = 1
    (fault,) = faults(service, rayservice_schema())
    assert "mispelt" in fault


def test_the_other_pods_have_fields_that_kubernetes_knows() -> None:
    templates = [each["spec"]["template"] for each in all_objects() if each["kind"] in ("StatefulSet", "Job")]
    assert len(templates) == 2
    for template in templates:
        assert faults(template, pod_template_schema()) == []


def test_the_config_is_the_production_file_letter_for_letter() -> None:
    assert SERVICE["spec"]["serveConfigV2"].rstrip() == CONFIG.read_text().rstrip()
    manifest = (ROOT / "kubernetes" / "rayservice.yaml").read_text()
    assert written(manifest, CONFIG.read_text()) == manifest  # else: python -m deployments.kubernetes_form


def test_the_command_replaces_the_whole_config_and_nothing_else() -> None:
    manifest = f"a: 1\n{FIELD}\n    old: 1\n\n    older: 2\n  next: 3\n"
    assert (
        written(manifest, "new:\n  - 1\n\n# end\n") == f"a: 1\n{FIELD}\n    new:\n      - 1\n\n    # end\n  next: 3\n"
    )
    with pytest.raises(ValueError, match="serveConfigV2"):
        written("a: 1\n", "new: 1\n")


def test_the_head_has_no_replica_and_no_gpu_and_no_client() -> None:
    assert (HEAD["rayStartParams"]["num-cpus"], HEAD["rayStartParams"]["num-gpus"]) == ("0", "0")
    assert "nvidia.com/gpu" not in str(HEAD)
    assert SERVICE["spec"]["excludeHeadPodFromServeSvc"] is True


def test_the_heads_service_has_the_ports_that_kuberay_asks_for_by_name() -> None:
    # it lists the container's where there are any, and its own defaults only where there are none
    ports = {port["name"]: port["containerPort"] for port in container("head")["ports"]}
    assert ports == {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "metrics": 8080, "serve": 8000}


def test_the_head_waits_for_the_family_that_the_pull_brings() -> None:
    (waiting,) = pod("head")["initContainers"]
    family = config().settings.drawing.family
    assert f"[ -e {family}/family.json ]" in waiting["command"][-1]
    assert str(family.parent) in {each["mountPath"] for each in waiting["volumeMounts"]}
    assert waiting["securityContext"] == container("head")["securityContext"]


def test_a_lost_head_finds_again_what_it_had() -> None:
    options = CLUSTER["gcsFaultToleranceOptions"]
    redis = {each["kind"]: each for each in manifests("redis.yaml")}
    (port,) = redis["Service"]["spec"]["ports"]
    assert options["redisAddress"] == f"{redis['Service']['metadata']['name']}:{port['port']}"
    secret = options["redisPassword"]["valueFrom"]["secretKeyRef"]
    assert secret in list(inside(redis["StatefulSet"], "secretKeyRef"))
    assert "appendonly yes" in str(redis["StatefulSet"])


def test_each_group_has_the_label_that_the_replicas_are_bound_by() -> None:
    options = config().options
    assert {name: group["labels"]["fooocus-serve/group"] for name, group in GROUPS.items()} == {
        name: name for name in GROUPS
    }
    bound = {name for name, each in options.items() if each["ray_actor_options"].get("label_selector")}
    assert bound == {*options} - {"Diffuser"}
    assert CLUSTER["autoscalerOptions"]["version"] == "v2"  # the first does not look at labels


def test_gpus_are_asked_for_by_the_gpu_group_alone_which_may_run_where_they_are() -> None:
    for name in GROUPS:
        resources = container(name)["resources"]
        gpus = {kind: resources[kind].get("nvidia.com/gpu", 0) for kind in ("limits", "requests")}
        assert {*gpus.values()} == {1 if name == "gpu" else 0}
        tolerated = [each["key"] for each in pod(name).get("tolerations", [])]
        assert tolerated == (["nvidia.com/gpu"] if name == "gpu" else [])


def test_there_may_be_as_many_gpu_nodes_as_a_rolling_update_needs() -> None:
    assert WORKERS["gpu"]["maxReplicas"] >= most_diffusers()


def test_the_cpu_group_holds_all_other_replicas_at_their_least_and_their_most() -> None:
    least = most = 0.0
    for name, options in config().options.items():
        if name == "Diffuser":
            continue
        scaling = options.get("autoscaling_config") or {}
        cpus = options["ray_actor_options"]["num_cpus"]
        least += cpus * scaling.get("min_replicas", options.get("num_replicas", 1))
        most += cpus * scaling.get("max_replicas", options.get("num_replicas", 1))
    each = float(container("cpu")["resources"]["limits"]["cpu"])
    assert least <= each * WORKERS["cpu"]["minReplicas"]
    assert most <= each * WORKERS["cpu"]["maxReplicas"]
    assert WORKERS["cpu"]["minReplicas"] >= 2


@pytest.mark.parametrize("group", WORKERS)
def test_a_pod_that_goes_is_drained_and_everything_ends_before_it_is_killed(group: str) -> None:
    command = container(group)["lifecycle"]["preStop"]["exec"]["command"]
    assert command[:4] == ["python", "-m", "deployments.drain", "--node"]
    within = float(command[command.index("--within") + 1])
    graces = [options["graceful_shutdown_timeout_s"] for options in config().options.values()]
    assert max(graces) < within < pod(group)["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("group", GROUPS)
def test_every_pod_says_whether_it_has_begun_lives_and_is_ready(group: str) -> None:
    probes = {name: container(group)[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
    assert probes["startup"]["exec"] == probes["liveness"]["exec"]
    if group != "head":
        assert probes["readiness"]["httpGet"] == {"path": "/-/healthz", "port": 8000}


@pytest.mark.parametrize("group", GROUPS)
def test_no_pod_has_more_rights_than_it_needs(group: str) -> None:
    assert pod(group)["securityContext"]["runAsNonRoot"] is True
    assert container(group)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    (account,) = manifests("serviceaccount.yaml")
    # the head's is KubeRay's own, by which Ray's autoscaler asks for pods
    assert pod(group).get("serviceAccountName") == (None if group == "head" else account["metadata"]["name"])
    assert account["automountServiceAccountToken"] is False


def test_every_secret_is_a_reference_and_none_is_in_a_file() -> None:
    assert "Secret" not in {each["kind"] for each in all_objects()}
    named = {reference["name"] for reference in inside(all_objects(), "secretKeyRef")}
    assert named | {*inside(all_objects(), "secretName")} == {"fooocus-serve", "fooocus-serve-redis"}
    for variable in (each for listed in inside(all_objects(), "env") for each in listed):
        assert ("valueFrom" in variable) or not re.search("URL|PASSWORD|SECRET|TOKEN|KEY", variable["name"])


@pytest.mark.parametrize("group", GROUPS)
def test_proxies_say_what_the_service_wants_where_no_gateway_answers(group: str) -> None:
    given = {each["name"]: each.get("value") for each in container(group)["env"]}
    assert given.items() >= proxy.ENVIRONMENT.items()


@pytest.mark.parametrize("group", GROUPS)
def test_what_the_settings_refer_to_is_where_they_say(group: str) -> None:
    gateway, family = config().settings.gateway, config().settings.drawing.family
    mounts = {each["mountPath"]: each["name"] for each in container(group)["volumeMounts"]}
    volumes = {each["name"]: each for each in pod(group)["volumes"]}
    secret = volumes[mounts["/etc/fooocus-serve"]]["secret"]
    assert gateway.token_secret is not None
    for reference in (gateway.token_secret, *gateway.webhook_keys):
        folder, _, name = reference.get_secret_value().removeprefix("file:").rpartition("/")
        assert (folder, name in {item["path"] for item in secret["items"]}) == ("/etc/fooocus-serve", True)
    assert gateway.ledger_url == f"env:{container(group)['env'][0]['name']}"
    assert str(family.parent) in mounts
    assert str(gateway.data_dir) in mounts
    (claim,) = (each for each in manifests("families.yaml") if each["kind"] == "PersistentVolumeClaim")
    assert volumes[mounts[str(family.parent)]]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


@pytest.mark.parametrize("group", GROUPS)
def test_metrics_are_scraped_where_ray_offers_them(group: str) -> None:
    annotations = GROUPS[group]["template"]["metadata"]["annotations"]
    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": GROUPS[group]["rayStartParams"]["metrics-export-port"],
    }


def test_budgets_and_policies_are_about_these_pods() -> None:
    labels = [group["template"]["metadata"]["labels"] for group in GROUPS.values()]
    labels += [each["spec"]["template"]["metadata"]["labels"] for each in manifests("redis.yaml")[1:]]
    selectors = [each["spec"]["selector"]["matchLabels"] for each in manifests("poddisruptionbudget.yaml")]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in manifests("networkpolicy.yaml")]
    for selector in selectors:
        assert any(selector.items() <= each.items() for each in labels), selector


def test_a_budget_leaves_one_of_the_pods_with_gateways_and_lets_the_others_go() -> None:
    (budget,) = manifests("poddisruptionbudget.yaml")
    assert budget["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] == "cpu"
    # not maxUnavailable, which needs a scale subresource: KubeRay's clusters have none
    assert budget["spec"]["minAvailable"] == WORKERS["cpu"]["minReplicas"] - 1


def test_ray_is_open_to_the_operator_and_its_own_pods_alone() -> None:
    policy, redis = manifests("networkpolicy.yaml")
    own, operator, clients, metrics = policy["spec"]["ingress"]
    assert own["from"] == [{"podSelector": {"matchLabels": {NAME: "fooocus-serve"}}}]
    assert {port["port"] for port in operator["ports"]} == {8265, 52365, 8000}
    assert [port["port"] for port in clients["ports"]] == [8000]
    assert [port["port"] for port in metrics["ports"]] == [8080]
    (rule,) = redis["spec"]["ingress"]
    assert rule["from"] == own["from"]


def test_every_file_is_of_the_kustomization() -> None:
    (kustomization,) = manifests("kustomization.yaml")
    assert sorted([*kustomization["resources"], *kustomization["configurations"], "kustomization.yaml"]) == FILES


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here: install Kubernetes' own client (kubectl)")
def test_kustomize_puts_the_image_of_the_registry_into_every_pod() -> None:
    built = subprocess.run(["kubectl", "kustomize", ROOT / "kubernetes"], capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stderr
    objects = list(yaml.safe_load_all(built.stdout))
    images = set(inside(objects, "image"))
    assert images == {"registry.example.com/fooocus-serve:0.1.0-cuda", "redis:7.4"}
    assert {each["metadata"]["namespace"] for each in objects} == {"fooocus-serve"}
