"""What an operator finds of a request: its id in the logs of every deployment, and the metrics by their contract."""

import re
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress

import httpx2
import pytest
import ray

from deployments.metrics_table import series
from gateway.monitoring.contract import METRICS, PREFIX
from tests.integration.calls import FAST, SMALL, result, submit, wait_until
from tests.integration.conftest import Service
from tests.integration.test_logs import lines

pytestmark = pytest.mark.cluster

DEPLOYMENTS = {
    *("Gateway", "Dispatcher", "Preprocessor", "PromptExpander", "Diffuser", "SafetyChecker", "Postprocessor")
}
# of a request that met no trouble
TRANSITIONS = {
    "Gateway": ["accepted"],
    "Dispatcher": ["claimed", "running", "delivered", "ended"],
    "Preprocessor": ["prepare"],
    "PromptExpander": ["expand"],
    "Diffuser": ["draw"],
    "SafetyChecker": ["check"],
    "Postprocessor": ["deliver"],
}
OF_SERVE = {"deployment", "replica", "application"}
OF_RAY = {"Component", "NodeAddress", "SessionName", "Version", "WorkerId", "NodeId", "instance", "le"}
OF_THE_EXPORTER = {"otel_scope_name", "otel_scope_schema_url", "otel_scope_version"}
# what nothing in these tests need have done
RARE = {
    *("fooocus_requests_cancelled_running_total", "fooocus_requests_requeued_total", "fooocus_leases_expired_total"),
    *("fooocus_store_errors_total", "fooocus_webhook_attempts_total", "fooocus_adapters_total"),
    *("fooocus_retried_asks_total", "fooocus_parts_brought_total", "fooocus_bytes_brought_total"),
    *("fooocus_weights_fetched_bytes_total", "fooocus_weights_hits_total", "fooocus_weights_misses_total"),
    *("fooocus_weights_evictions_total", "fooocus_padding_tokens_total"),
}


def drawn(client: httpx2.Client) -> str:
    """The id of a request that went through all stages."""
    submitted = submit(client, FAST, {**SMALL, "expand_prompt": True, "enable_safety_checker": True})
    assert result(client, submitted).status_code == 200
    return str(submitted["request_id"])


def test_the_logs_of_all_deployments_tell_what_a_request_went_through(service: Service, client: httpx2.Client) -> None:
    request_id = drawn(client)
    told: Mapping[str, list[str]] = {}

    def all_have_told() -> bool:
        nonlocal told
        found = defaultdict(list)
        for line in lines():
            if line.get("request_id") == request_id and "transition" in line:
                deployment = line["deployment"].removeprefix(f"{service.app}_")
                assert line["endpoint"] == FAST
                assert line["seconds"] >= 0
                assert line.get("attempt", 0) == (0 if deployment == "Gateway" else 1)
                found[deployment].append(line["transition"])
        told = found
        return found.keys() >= DEPLOYMENTS and "ended" in found["Dispatcher"]

    wait_until(all_have_told, f"{request_id} in all logs")
    assert told == TRANSITIONS


def exported() -> dict[str, set[str]]:
    """The names of the series of our metrics that Ray's agent exports, each with its labels."""
    port = ray.nodes()[0]["MetricsExportPort"]
    text = httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    found: dict[str, set[str]] = defaultdict(set)
    for name, labels in re.findall(rf"^({PREFIX}(?:fooocus|fal)_\w+)(?:{{(.*)}})? ", text, re.MULTILINE):
        found[name] |= {label for label, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)}
    return found


def test_what_is_exported_is_what_the_contract_says(client: httpx2.Client) -> None:
    drawn(client)
    usual = {name for metric in METRICS if metric.name not in RARE for name in series(metric)}
    missing = usual

    def all_are_there() -> bool:
        nonlocal missing
        missing = usual - exported().keys()
        return not missing

    with suppress(AssertionError):
        wait_until(all_are_there, "the metrics")
    assert missing == set()
    known = {name: metric for metric in METRICS for name in series(metric)}
    for name, labels in exported().items():
        metric = known[name]
        own = {*metric.labels} | (set() if metric.is_fals else OF_SERVE)
        assert labels - OF_RAY - OF_THE_EXPORTER == own - OF_RAY, name
