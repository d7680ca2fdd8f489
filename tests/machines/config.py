"""The production file as it is staged: what it says, with the addresses, the device and the model of these machines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import ROOT
from tests.gateway.files.s3_server import BUCKET
from tests.machines.node import DATA

FAMILY = DATA / "families" / "default"
SECRETS = Path("/etc/fooocus-serve")  # where the file has them, on each node


def production(public_url: str, endpoint_url: str) -> dict[str, Any]:
    """What `serve_config.yaml` holds, but for the addresses, the family and the device. public_url: of the balancer.
    endpoint_url: of the S3 server."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    arguments = content["applications"][0]["args"]
    addresses = {"files_url": f"s3://{BUCKET}/machines", "files_endpoint_url": endpoint_url}
    arguments["gateway"] |= {"public_url": public_url, **addresses}
    arguments["drawing"] |= {"family": str(FAMILY), "device": "cpu", "dtype": "float32", "threads": 1}
    return content


def environment_of_nodes() -> dict[str, str]:
    """What `cluster.yaml` puts into it, but for the secrets."""
    options: list[str] = yaml.safe_load((ROOT / "cluster.yaml").read_text())["docker"]["run_options"]
    given = [option.removeprefix("--env ") for option in options if option.startswith("--env ")]
    return dict(one.split("=", 1) for one in given)


def options_of(content: Mapping[str, Any], deployment: str) -> dict[str, Any]:
    """What the file lists of a deployment, to be changed in place."""
    listed = content["applications"][0]["deployments"]
    found: dict[str, Any] = next(one for one in listed if one["name"] == deployment)
    return found


def scale(content: Mapping[str, Any], least: int, most: int, **rules: float) -> None:
    """Let there be so many Diffusers, by other rules than the file's."""
    options_of(content, "Diffuser")["autoscaling_config"] |= {"min_replicas": least, "max_replicas": most}
    limits = options_of(content, "Dispatcher")["user_config"]
    limits["scaling"] = {**limits.get("scaling", {}), **rules}
