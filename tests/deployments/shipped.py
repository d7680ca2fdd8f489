"""The files that ship for several machines, read, and the schema that KubeRay holds them to."""

import gzip
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CRD = ROOT / "tests" / "data" / "kuberay_rayservices_crd.yaml.gz"


@cache
def rayservice_schema() -> Mapping[str, Any]:
    """Of a RayService in JSON Schema, with unknown fields refused, as `kubectl apply --validate=strict` does."""
    with gzip.open(CRD) as file:
        definition = yaml.load(file, Loader=yaml.CSafeLoader)
    (version,) = (each for each in definition["spec"]["versions"] if each["name"] == "v1")
    closed: Mapping[str, Any] = _closed(version["schema"]["openAPIV3Schema"])
    return closed


def pod_template_schema() -> Mapping[str, Any]:
    """Of a pod's template, which KubeRay's definition holds in full."""
    cluster = rayservice_schema()["properties"]["spec"]["properties"]["rayClusterConfig"]
    template: Mapping[str, Any] = cluster["properties"]["workerGroupSpecs"]["items"]["properties"]["template"]
    return template


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def manifests(name: str) -> list[dict[str, Any]]:
    """The objects of a file in kubernetes/."""
    return list(yaml.safe_load_all((ROOT / "kubernetes" / name).read_text()))


def rayservice() -> dict[str, Any]:
    (service,) = manifests("rayservice.yaml")
    return service


def cluster_file() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return content


def most_diffusers() -> int:
    """How many there are at most in production, while a new version of them rolls."""
    from deployments.config_file import read

    options = read(ROOT / "serve_config.yaml").options["Diffuser"]
    most: int = options["autoscaling_config"]["max_replicas"]
    surge: int = -(-most * options["max_surge_percent"] // 100)
    return most + surge
