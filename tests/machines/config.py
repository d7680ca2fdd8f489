"""The production file as it is staged: what it says, with the addresses, the device and the model of these machines."""

from collections.abc import Mapping
from typing import Any

import yaml

from tests.cluster import ROOT
from tests.gateway.files.s3_server import BUCKET
from tests.machines.node import DATA

FAMILY = DATA / "families" / "default"
# references in the file, or where it has none yet what stands for them; their values are in the nodes' environment
REFERENCES: Mapping[str, Any] = {
    "ledger_url": "env:LEDGER_URL",
    "token_secret": "env:TOKEN_SECRET",
    "webhook_keys": ["env:WEBHOOK_KEY"],
}


def production(endpoint_url: str) -> dict[str, Any]:
    """What `serve_config.yaml` holds. endpoint_url: of the S3 server."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    arguments = content["applications"][0]["args"]
    arguments["gateway"] |= REFERENCES
    arguments["gateway"] |= {"files_url": f"s3://{BUCKET}/machines", "files_endpoint_url": endpoint_url}
    arguments["drawing"] |= {"family": str(FAMILY), "device": "cpu", "dtype": "float32", "threads": 1}
    for stage in ("checking", "expanding"):
        if "device" in arguments.get(stage, {}):
            arguments[stage]["device"] = "cpu"
    return content


def options_of(content: Mapping[str, Any], deployment: str) -> dict[str, Any]:
    """What the file lists of a deployment, to be changed in place."""
    listed = content["applications"][0]["deployments"]
    found: dict[str, Any] = next(one for one in listed if one["name"] == deployment)
    return found
