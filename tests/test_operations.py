"""The commands of docs/operations.md, run as they are written, in a folder where a service has been."""

import asyncio
import json
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gateway.ledger.database import Database
from gateway.settings import GatewaySettings
from tests.pages import blocks, languages, page

Run = Callable[[str], str]

TORCH_FIRST = (
    "python3 -m venv .venv && .venv/bin/pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
)
# Commands of the page that are not run here, and why.
NOT_RUN: Mapping[str, str] = {
    "make serve": "starts Ray; tests/deployments/test_serve_local.py runs what is behind it",
    "make serve DEVICE=cuda": "needs a GPU",
    "make serve PORT=9000": "starts Ray",
    "make serve HOST=192.168.1.5 TLS=1 PORT=8443": "starts Ray; what it adds is in test_serve_local.py",
    "make test": "is this suite",
    TORCH_FIRST: "reaches an index that the tests do not",
    "python -m benchmarks.soak": "takes half an hour; tests/benchmarks/soak holds its parts",
    "python -m models": "is a program with a page of its own, docs/models.md",
    "python -m deployments.drain": "needs a running service; tests/deployments drains one",
    "ray up": "starts machines on a cloud",
    "ray start --labels=state=here": "starts Ray",
    "ray start": "starts Ray",
    "python -m deployments.drain --node --within 900": "needs a cluster; test_several_nodes.py drains a node",
    "python -m deployments.kubernetes_form": "tests/deployments/test_kubernetes.py runs what is behind it",
    "python -m deployments.config_file serve_config.yaml": "tests/deployments/test_config_files.py runs it",
    "serve deploy": "needs Ray",
    "serve config": "needs Ray",
    "ray status": "needs Ray",
    "serve status": "needs Ray",
    "serve shutdown": "needs Ray",
    "serve delete": "needs Ray",
}
ELSEWHERE = ("docker ", "kubectl ")  # needs a daemon, or a Kubernetes cluster


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process, in a folder with a service's `var`; what it printed."""
    (tmp_path / "var").mkdir()
    asyncio.run(make_ledger(GatewaySettings(data_dir=tmp_path / "var")))
    monkeypatch.chdir(tmp_path)

    def run(command: str) -> str:
        python, option, module, *arguments = shlex.split(command)
        assert (python, option) == ("python", "-m")
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        monkeypatch.delitem(sys.modules, f"{module}.__main__", raising=False)
        code: object = None
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as ended:
            code = ended.code
        assert code in (None, 0), command
        return capsys.readouterr().out

    return run


async def make_ledger(settings: GatewaySettings) -> None:
    await (await Database.open(settings.ledger_address)).close()


def commands() -> list[str]:
    """The lines of the page's blocks, and what it has of commands within its text."""
    text = page("docs/operations.md")
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    inline = re.findall(r"`((?:python -m|make|ray|serve) [^`]+)`", text)
    return [*lines, *(command for command in dict.fromkeys(inline) if command not in lines)]


def test_every_command_is_run_or_is_said_why_not(run: Run) -> None:
    assert {*languages(page("docs/operations.md"))} == {"sh"}
    made: dict[str, str] = {}
    ran = []
    for command in commands():
        if command in NOT_RUN or command.startswith(ELSEWHERE):
            continue
        said = run(command.replace("ID", made.get("id", "ID")))
        if found := re.search(r"^FAL_KEY=([0-9a-f]{16}):", said, re.MULTILINE):
            made["id"] = found[1]
        ran.append(command)
    assert {command.split()[2] for command in ran} == {"gateway.keys", "gateway.webhooks", "gateway.ledger"}
    assert {*NOT_RUN} <= {*commands()}  # no reason is left over
    assert Path("restored/ledger.db").stat().st_mode & 0o777 == 0o600
    (key,) = json.loads(run("python -m gateway.keys --data-dir var list --json"))
    assert key["id"] == made["id"]
    assert key["state"].startswith("revoked")


def test_the_torch_that_is_installed_first_is_the_one_that_is_kept() -> None:
    (version,) = re.findall(r"^(torch==\S+)$", page("constraints.txt"), re.MULTILINE)
    assert f" {version} " in TORCH_FIRST
