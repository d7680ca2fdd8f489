"""`make serve` as a user meets it: one line when ready, all on loopback, gone after Ctrl-C; a taken port is said."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from tests.cluster import ROOT, free_port
from tests.deployments.fakes import wait_until
from tests.integration.calls import FAST, SMALL, result, submit
from tests.integration.sockets import listening

pytestmark = pytest.mark.cluster
READY_S = 120
# of HTTP and gRPC, towards who has no token; not every method is there to be asked for
REFUSALS = {"401", "UNAUTHENTICATED", "UNIMPLEMENTED"}
METRICS = ("autoscaler/_private/monitor.py", "dashboard/dashboard.py", "ray::DashboardAgent")  # who offers them to all


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, pocket_family_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("served")
    content = yaml.safe_load((ROOT / "serve_config.local.yaml").read_text())
    gateway = content["applications"][0]["args"]["gateway"]
    gateway |= {"data_dir": str(folder / "var"), "allow_loopback_urls": False}
    content["applications"][0]["args"]["drawing"]["family"] = str(pocket_family_folder)
    content["tracing_config"] = {"enabled": True, "sampling_ratio": 1.0}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def start(config: Path, port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "deployments.serve_local", "--config", str(config), "--port", str(port)]
    output = config.with_suffix(".log").open("w")
    with output:
        # a group of its own, as a shell gives it: Ctrl-C reaches all of it
        return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, text=True, process_group=0)


@pytest.fixture(scope="module")
def served(config: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_port()
    process = start(config, port)
    try:
        wait_until(lambda: "ready" in said(config) or process.poll() is not None, READY_S)
        yield process, port
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def said(config: Path) -> str:
    return config.with_suffix(".log").read_text()


def living() -> dict[int, int]:
    """The parent of each living process."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it has just ended
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    return parents


def descendants(process: int) -> set[int]:
    parents, found = living(), {process}
    while more := {one for one, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {process}


def test_every_socket_is_on_loopback_and_asks_for_the_token_of_the_run(
    served: tuple[subprocess.Popen[str], int],
) -> None:
    process, port = served
    sockets = listening(process.pid)
    assert len(sockets) > 20  # of the replicas alone there are fourteen
    assert [socket for socket in sockets if not socket.is_loopback] == []
    answers = {socket: socket.answers() for socket in sockets if socket.port != port}
    assert [socket for socket, found in answers.items() if found == {"UNIMPLEMENTED"}] == []  # each was asked something
    open_to_all = [socket for socket, found in answers.items() if not found <= REFUSALS]
    for socket in open_to_all:
        assert any(name in socket.process for name in METRICS), socket
        assert "# HELP " in socket.says("/metrics")
    wait_until(lambda: any("ray_serve_" in socket.says("/metrics") for socket in open_to_all))


def spans(of: str) -> list[dict[str, Any]]:
    """The spans of a trace that any service here has written so far."""
    found, decoder = [], json.JSONDecoder()
    for file in Path("/tmp").glob("fooocus-*/session_latest/logs/serve/spans/*"):
        text = file.read_text().lstrip()
        while text:
            try:
                span, end = decoder.raw_decode(text)
            except ValueError:  # half of it is written
                break
            found += [span] if span["context"]["trace_id"] == of else []
            text = text[end:].lstrip()
    return found


def test_the_spans_of_a_request_share_the_trace_that_its_id_names_in_all_stages(
    served: tuple[subprocess.Popen[str], int],
) -> None:
    with httpx2.Client(base_url=f"http://127.0.0.1:{served[1]}", timeout=60, trust_env=False) as client:
        submitted = submit(client, FAST, {**SMALL, "expand_prompt": True, "enable_safety_checker": True})
        assert result(client, submitted).status_code == 200
    trace = "0x" + submitted["request_id"].replace("-", "")
    stages = {"Preprocessor", "PromptExpander", "Diffuser", "SafetyChecker", "Postprocessor"}

    def all_are_there() -> bool:
        told = spans(trace)
        reached = {each["attributes"].get("deployment") for each in told}
        return reached >= stages and {each["name"] for each in told} >= {"accept", "queue", "run"}

    wait_until(all_are_there)


def test_it_says_where_its_metrics_are(served: tuple[subprocess.Popen[str], int], config: Path) -> None:
    (address,) = re.findall(r"^Metrics for Prometheus: (.*)$", said(config), re.MULTILINE)
    wait_until(lambda: "ray_fooocus_beats_total" in httpx2.get(address, trust_env=False).text)


def test_it_says_that_it_is_ready_fetches_nothing_from_inside_and_ends_whole_on_ctrl_c(
    served: tuple[subprocess.Popen[str], int], config: Path
) -> None:
    process, port = served
    assert f"Fooocus Serve is ready on http://127.0.0.1:{port}\n" in said(config)
    assert httpx2.get(f"http://127.0.0.1:{port}/ready").status_code == 200

    for url in (f"http://[::1]:{port}/health", f"http://127.0.0.1:{port}/health", "http://169.254.169.254/"):
        answer = httpx2.post(
            f"http://127.0.0.1:{port}/fal-ai/fast-fooocus-sdxl/image-to-image",
            json={"prompt": "a rocket", "image_url": url},
            timeout=60,
        )
        assert answer.status_code == 422
        (entry,) = answer.json()["detail"]
        assert (entry["type"], entry["loc"]) == ("file_download_error", ["body", "image_url"])
        assert "not a public one" in entry["msg"]

    second = subprocess.run(
        [sys.executable, "-m", "deployments.serve_local", "--config", str(config), "--port", str(port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert f"port {port} on 127.0.0.1 is not free" in second.stderr
    assert "make serve PORT=" in second.stderr

    family = descendants(process.pid)
    assert len(family) > 7  # the replicas at least
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 0
    wait_until(lambda: not family & living().keys(), 10)
    assert "Traceback" not in said(config)
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"http://127.0.0.1:{port}/ready")
