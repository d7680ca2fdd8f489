"""The first hour of a team with real weights: pull, verify, serve, and fal's example programs.

What stands for what. The public hub is one on loopback, asked by the published `huggingface_hub`. Its files have the
names, places and formats of the catalogue's, pickles among them; their tensors are the pocket family's: the checkpoint
is the pocket's, in the original single-file layout as SDXL's are. One thing is done by hand, because the pocket has
other shapes than SDXL: after the pull the family is told so by its configurations (`give_shapes`). The device is the
CPU. All else is what a user has: the tool and `make serve`'s program in processes of their own, and `fal-client`.

It is slow, about a minute, because that is what it is about: the tool converts six pickles, each in a process, the
service is started and stopped, and the examples draw a megapixel twice.
"""

import ast
import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fal_client
import httpx2
import numpy as np
import pytest
import yaml

from benchmarks.pocket.world.oracle import Oracle
from tests.clients.guard import Guard
from tests.clients.outputs import assert_fast_output, assert_fooocus_output, picture
from tests.clients.pointing import point
from tests.cluster import free_port
from tests.deployments.fakes import wait_until
from tests.models.hub import environment_of, serving
from tests.models.miniatures import drawable, give_shapes
from tests.pages import ADDRESS, ROOT, blocks, page

pytestmark = [pytest.mark.clients, pytest.mark.cluster]
COMMAND_S, READY_S, ENDING_S = 120, 150, 60


@pytest.mark.long
def test_a_team_pulls_a_preset_serves_it_and_runs_its_programs(
    pocket_family_folder: Path,
    tmp_path: Path,
    guard: Guard,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serving(drawable(pocket_family_folder)) as hub:
        environment = os.environ | environment_of(hub, tmp_path)
        assert "has all of default" in tool(environment, "pull", "default", "--accept-unpinned")
    assert "every file is as it came" in tool(environment, "verify", "default")
    give_shapes(tmp_path / "families" / "default", pocket_family_folder)
    assert "every file is as it came" in tool(environment, "verify", "default")

    with served("default", environment, tmp_path) as address:
        family = httpx2.get(f"{address}/ready").json()["family"]
        assert (family["name"], family["checks_pictures"]) == ("default", True)
        assert {"canny", "cpds", "vision", "inpaint_patch", "offset_lora", "lcm_lora"} <= {*family["has"]}
        older = {"inpaint_patch_v1", "inpaint_patch_v25"}  # of the inpaint model, which nobody asks for by default
        assert {*family["missing"]} == {
            "expansion",
            "face_detector",
            "refiner",
            "interposer",
            "safety_checker_v2",
            *older,
        }
        assert family["missing"]["refiner"] == "python -m models pull refiner --family default"
        point(address, monkeypatch)
        with guard.watching():
            examples(address, tmp_path, monkeypatch, capsys)
            text_to_image()
            refused_lora()


def tool(environment: Mapping[str, str], *arguments: str) -> str:
    """What a command of the tool prints, when it has done what it was asked for."""
    command = [sys.executable, "-m", "models", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=COMMAND_S)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@contextmanager
def served(family: str, environment: Mapping[str, str], folder: Path) -> Iterator[str]:
    """The address of what `make serve MODEL=...` serves, with a data folder and a port of the test's own."""
    content = yaml.safe_load((ROOT / "serve_config.local.yaml").read_text())
    content["applications"][0]["args"]["gateway"]["data_dir"] = str(folder / "var")
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    port, log = free_port(), folder / "serve.log"
    command = [sys.executable, "-m", "deployments.serve_local", "--config", str(folder / "config.yaml")]
    command += ["--port", str(port), "--family", family]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "ready" in log.read_text() or process.poll() is not None, READY_S)
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(ENDING_S)


def examples(address: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """fal's two example programs, as the README prints them."""
    (source,) = blocks(page("README.md"), "python")
    (folder / "example.py").write_text(source.replace(ADDRESS, address), encoding="utf-8")
    (folder / "docs").mkdir(exist_ok=True)
    shutil.copy(ROOT / "docs" / "heart.png", folder / "docs")
    monkeypatch.chdir(folder)
    capsys.readouterr()
    runpy.run_path(str(folder / "example.py"), run_name="__main__")  # in this process, where the guard is
    lines = capsys.readouterr().out.splitlines()
    image_prompt, image_to_image = (ast.literal_eval(line) for line in lines if line.startswith("{"))
    assert_fooocus_output(image_prompt, (512, 512))
    assert_fast_output(image_to_image, (512, 512), 1, "a big green star on the left, white background")


def text_to_image() -> None:
    """A picture that shows what was asked for, so the weights that came are those that draw."""
    asked: dict[str, Any] = {"prompt": "a red circle on a blue background", "image_size": "square", "seed": 7}
    output = fal_client.subscribe("fal-ai/fast-fooocus-sdxl", arguments=asked)
    assert_fast_output(output, (512, 512), 7, asked["prompt"])
    shown = Oracle().read(np.asarray(picture(output["images"][0])))
    assert shown is not None
    assert [(thing.colour, thing.shape) for thing in shown.things] == [("red", "circle")]
    assert shown.background == "blue"


def refused_lora() -> None:
    """What the preset does not bring is refused at the submit, with the command that does."""
    lora = {"path": "SDXL_FILM_PHOTOGRAPHY_STYLE_V1.safetensors"}
    with pytest.raises(fal_client.client.FalClientHTTPError) as refused:
        fal_client.submit("fal-ai/fooocus", arguments={"prompt": "a lake", "loras": [lora]})
    assert refused.value.status_code == 422
    assert "`python -m models pull film_lora --family default`" in str(refused.value)
