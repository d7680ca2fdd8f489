"""The examples of the README, run as they are printed; only the service's address is replaced."""

import ast
import json
import os
import re
import runpy
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.pocket.world.oracle import Oracle
from tests.clients.conftest import HERE
from tests.clients.outputs import assert_fast_output, assert_fooocus_output, picture
from tests.pages import ADDRESS, ROOT, blocks, page

pytestmark = [pytest.mark.clients, pytest.mark.cluster]

PICTURE = "docs/heart.png"  # that the README's programs send
BUDGET_S = 60  # of two pictures; the summary shows what they took

RunNode = Callable[..., subprocess.CompletedProcess[str]]
Took = Callable[[str, float], None]


@pytest.fixture
def place(tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the picture in it, as the reader of the README has one."""
    (tmp_path / PICTURE).parent.mkdir()
    (tmp_path / PICTURE).write_bytes((ROOT / PICTURE).read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_both_examples(outputs: list[Mapping[str, Any]], logs: list[str]) -> None:
    image_prompt, image_to_image = outputs
    assert_fooocus_output(image_prompt, (512, 512))
    assert_fast_output(image_to_image, (512, 512), 1, "a big green star on the left, white background")
    assert_shows(image_prompt, "red", "heart", "blue")
    assert_shows(image_to_image, "green", "star", "white")
    assert logs


def assert_shows(output: Mapping[str, Any], colour: str, shape: str, background: str) -> None:
    shown = Oracle().read(np.asarray(picture(output["images"][0])))
    assert shown is not None
    assert [(thing.colour, thing.shape) for thing in shown.things] == [(colour, shape)]
    assert shown.background == background


def test_the_python_example(base: str, place: Path, capsys: pytest.CaptureFixture[str], took: Took) -> None:
    (source,) = blocks(page("README.md"), "python")
    assert source.count(ADDRESS) == 1
    (place / "example.py").write_text(source.replace(ADDRESS, base), encoding="utf-8")
    began = time.perf_counter()
    runpy.run_path(str(place / "example.py"), run_name="__main__")  # in this process, where the guard is
    _report(began, "both examples of the README, fal-client", took)
    lines = capsys.readouterr().out.splitlines()
    outputs = [ast.literal_eval(line) for line in lines if line.startswith("{")]
    assert_both_examples(outputs, [line for line in lines if not line.startswith("{")])


@pytest.mark.parametrize("package", ["@fal-ai/client", "@fal-ai/serverless-client"])
def test_the_javascript_example(base: str, place: Path, run_node: RunNode, took: Took, package: str) -> None:
    (source,) = (block for block in blocks(page("README.md"), "js") if f'"{package}"' in block)
    assert source.count(ADDRESS) == 1
    (place / "example.mjs").write_text(source.replace(ADDRESS, base), encoding="utf-8")
    (place / "node_modules").symlink_to(HERE / "node_modules")
    began = time.perf_counter()
    done = run_node(place / "example.mjs", more=("--import", (HERE / "print_json.mjs").as_uri()))
    _report(began, f"both examples of the README, {package}", took)
    assert done.returncode == 0, done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert_both_examples(
        [line for line in printed if isinstance(line, dict)], [line for line in printed if isinstance(line, str)]
    )


@pytest.mark.parametrize("number", [0, 1], ids=["run", "queue"])
def test_the_curl_example(base: str, number: int) -> None:
    if shutil.which("curl") is None:
        pytest.skip("the examples with curl need curl on the PATH: install it and run again")
    source = blocks(page("README.md"), "bash")[number]
    assert set(re.findall(r"https?://[^/\s]+", source)) == {ADDRESS}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", source.replace(ADDRESS, base)],
        capture_output=True,
        text=True,
        timeout=BUDGET_S,
        env={**os.environ, "no_proxy": "*"},
    )
    assert done.returncode == 0, done.stderr
    output = json.loads(done.stdout.splitlines()[-1])
    assert_fast_output(output, (512, 512), 7, "a red circle on a blue background")
    assert_shows(output, "red", "circle", "blue")


def _report(began: float, name: str, took: Took) -> None:
    seconds = time.perf_counter() - began
    took(name, seconds)
    assert seconds < BUDGET_S
