"""The alerts: each can be made to fire, none fires on a calm day, and the guide says of each what to do."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from deployments.metrics_table import series, table, written
from gateway.monitoring.contract import METRICS, PREFIX
from tests.pages import ROOT, page, section

FOLDER = ROOT / "monitoring"
RULES = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
ALERTS = {rule["alert"]: rule for rule in RULES}
FALS = {name.removeprefix(PREFIX) for metric in METRICS if metric.is_fals for name in series(metric)}
KNOWN = {name: metric for metric in METRICS for name in series(metric)}

Series = Mapping[str, str]

OK = 'ray_fooocus_requests_ended_total{outcome="ok"}'
ENDPOINT = 'endpoint="fal-ai/fooocus"'
DEPTH = f'ray_fooocus_queue_depth{{{ENDPOINT}, priority="normal"}}'
# An hour and a half of nothing special, in promtool's words for values: begin, difference, how often.
CALM: Series = {
    'ray_fooocus_store_up{store="ledger"}': "1x360",
    'ray_fooocus_store_up{store="files"}': "1x360",
    "ray_fooocus_beats_total": "0+15x360",
    'ray_fooocus_beat_seconds_bucket{le="0.01"}': "0+15x360",
    'ray_fooocus_beat_seconds_bucket{le="+Inf"}': "0+15x360",
    "ray_fooocus_leases_expired_total": "3x360",
    "ray_fooocus_replicas_reporting": "2x360",
    DEPTH: "5x360",
    f'ray_fooocus_requests_held{{{ENDPOINT}, state="claimed"}}': "0x360",
    f'ray_fooocus_queue_oldest_wait_seconds{{{ENDPOINT}, priority="normal"}}': "4x360",
    "ray_fooocus_requests_accepted_total": "0+30x360",
    OK: "0+30x360",
    "ray_fooocus_lowered_row_caps": "0x360",
    "ray_fooocus_prompt_tokens_total": "0+1000x360",
    "ray_fooocus_padding_tokens_total": "0+50x360",
    'ray_fooocus_bases_total{cache="hit"}': "0+30x360",
    "ray_fooocus_webhooks_oldest_seconds": "2x360",
    "ray_fooocus_webhooks_waiting": "3x360",
}
# What makes each of them fire, where it is otherwise than on a calm day; nothing at all for a name alone.
FIRE: Mapping[str, Series] = {
    "FooocusNotScraped": dict.fromkeys(CALM, ""),
    "FooocusLedgerAway": {'ray_fooocus_store_up{store="ledger"}': "0x360"},
    "FooocusFilesAway": {'ray_fooocus_store_up{store="files"}': "0x360"},
    "FooocusStoreErrors": {'ray_fooocus_store_errors_total{store="files"}': "0+15x360"},
    "FooocusDispatcherSilent": {"ray_fooocus_beats_total": "900x360"},
    "FooocusBeatsSlow": {'ray_fooocus_beat_seconds_bucket{le="0.01"}': "0x360"}
    | {f'ray_fooocus_beat_seconds_bucket{{le="{le}"}}': rate for le, rate in (("5", "0x360"), ("10", "0+15x360"))},
    # by a process that had none before
    "FooocusLeasesExpire": {'ray_fooocus_leases_expired_total{replica="new"}': "_x350 5x10"},
    # one request, which a dispatcher holds
    "FooocusNobodyDraws": {
        "ray_fooocus_replicas_reporting": "0x360",
        DEPTH: "0x360",
        f'ray_fooocus_requests_held{{{ENDPOINT}, state="claimed"}}': "1x360",
    },
    "FooocusQueueSlow": {f'ray_fooocus_queue_oldest_wait_seconds{{{ENDPOINT}, priority="normal"}}': "0+15x360"},
    "FooocusQueueFull": {DEPTH: "9000x360"},
    "FooocusErrors": {'ray_fooocus_requests_ended_total{outcome="error", error_type="internal_error"}': "0+3x360"},
    "FooocusRequeues": {"ray_fooocus_requests_requeued_total": "0+3x360"},
    "FooocusStageFaults": {'ray_fooocus_stage_seconds_count{stage="draw", result="fault"}': "0+3x360"},
    "FooocusDeviceOutOfMemory": {"ray_fooocus_lowered_row_caps": "1x360"},
    "FooocusPicturesBegunAgain": {"ray_fooocus_retried_asks_total": "0+1x360"},
    "FooocusPaddingWastes": {"ray_fooocus_padding_tokens_total": "0+600x360"},
    "FooocusBasesThrash": {'ray_fooocus_bases_total{cache="miss"}': "0+10x360"},
    "FooocusWorkLost": {"ray_fooocus_requests_cancelled_running_total": "0+10x360"},
    "FooocusWebhooksLate": {"ray_fooocus_webhooks_oldest_seconds": "0+15x360"},
    "FooocusWebhooksPileUp": {"ray_fooocus_webhooks_waiting": "2000x360"},
}


def named(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The series that an expression of Prometheus names, each with the labels that it is asked by."""
    for name, braces in re.findall(r"\b((?:ray_)?(?:fooocus|fal_app|serve)_\w+)(?:\{([^}]*)\})?", expression):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", braces))


def is_known(expression: str) -> bool:
    """Whether it names nothing but what is exported, by labels that it has."""
    found = [(name, labels) for name, labels in named(expression) if not name.startswith("ray_serve_")]
    assert found or "ray_" in expression, expression
    for name, labels in found:
        metric = KNOWN.get(f"{PREFIX}{name}" if name in FALS else name)
        if metric is None or not labels <= {*metric.labels, "deployment", "application", "replica", "le"}:
            return False
    return True


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is missing: install Prometheus (on Debian the package prometheus)")
    return found


def write_test(folder: Path, day: str, values: Series) -> Path:
    """A file for promtool: that at the end of a day the alert fires whose name it has, or none of all where it has
    none. It holds the rules that it asks for, and no others: promtool would work out all of them for every day."""
    rules = {"groups": [{"name": day, "rules": [ALERTS[day]] if day in ALERTS else RULES}]}
    (folder / f"{day}.rules").write_text(yaml.safe_dump(rules))
    asked = {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": "90m",
        "exp_samples": [{"labels": f'{{alertname="{day}"}}', "value": 1}] if day in ALERTS else [],
    }
    inputs = [{"series": name, "values": value} for name, value in values.items() if value]
    test = {"interval": "15s", "name": day, "input_series": inputs, "promql_expr_test": [asked]}
    whole = {"rule_files": [f"{day}.rules"], "evaluation_interval": "15s", "tests": [test]}
    (folder / f"{day}.yaml").write_text(yaml.safe_dump(whole))
    return folder / f"{day}.yaml"


def test_every_alert_can_be_made_to_fire_and_none_does_on_a_calm_day(promtool: str, tmp_path: Path) -> None:
    assert {*FIRE} == {*ALERTS}
    days = {"calm": CALM, **{name: {**CALM, **other} for name, other in FIRE.items()}}
    files = [write_test(tmp_path, day, values) for day, values in days.items()]
    ran = subprocess.run([promtool, "test", "rules", *files], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_what_alerts_and_their_days_name_is_exported() -> None:
    for rule in RULES:
        assert is_known(rule["expr"]), rule["alert"]
    for values in (CALM, *FIRE.values()):
        assert all(map(is_known, values))


def test_prometheus_takes_the_files(promtool: str) -> None:
    for command in (["check", "rules", "alerts.yaml"], ["check", "config", "prometheus.yaml"]):
        subprocess.run([promtool, *command], cwd=FOLDER, check=True, capture_output=True, timeout=60)


def test_the_dashboard_shows_nothing_that_is_not_exported() -> None:
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert len(asked) > 20
    assert [expression for expression in asked if not is_known(expression)] == []
    shown = {name for expression in asked for name, _ in named(expression)}
    unseen = [metric.name for metric in METRICS if not metric.is_fals and not shown & {*series(metric)}]
    assert unseen == []


def test_the_guide_has_a_paragraph_for_each_alert() -> None:
    runbook = section(page("docs/operations.md"), "Alerts")
    told = re.findall(r"^### (\w+)$", runbook, re.MULTILINE)
    assert told == [*ALERTS]
    for paragraph in runbook.split("\n### ")[1:]:
        for part in ("**Means:**", "**Look:**", "**Do:**"):
            assert part in paragraph, paragraph.splitlines()[0]


def test_the_guide_has_the_table_of_metrics_as_the_command_writes_it() -> None:
    operations = page("docs/operations.md")
    assert written(operations) == operations
    assert all(f"`{metric.name}`" in table() for metric in METRICS)
