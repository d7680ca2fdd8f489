"""The README's strip is made by the service, and its pictures show what stands under them."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.pocket.world.oracle import Oracle
from models.pocket.words import NAMES
from tests.integration.conftest import Service
from tests.pages import ROOT, blocks, page

pytestmark = pytest.mark.cluster


@pytest.mark.long
def test_the_strip_is_drawn_anew(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, made = ROOT / "docs" / "strip.py", tmp_path / "strip.png"
    assert "python docs/strip.py http://127.0.0.1:8000" in page("README.md")
    monkeypatch.setattr(sys, "argv", ["strip.py", service.base_url, "--out", str(made)])
    found = runpy.run_path(str(script), run_name="__main__")
    prompts, edge, pitch = found["PROMPTS"], found["EDGE"], found["EDGE"] + found["GAP"]
    with Image.open(made) as sheet, Image.open(ROOT / "docs" / "strip.png") as shown:
        assert sheet.size == shown.size
        pictures = [np.asarray(sheet.crop((at * pitch, 0, at * pitch + edge, edge))) for at in range(len(prompts))]
    (program,) = blocks(page("README.md"), "python")
    for endpoint, example in found["examples"]("given"):  # as the page asks for them
        assert f'"{endpoint}"' in program
        assert {example["prompt"], str(example.get("aspect_ratio", "512x512"))} <= set(
            re.findall(r'"([^"]+)"', program)
        )
    with Image.open(made.with_name("examples.png")) as sheet, Image.open(ROOT / "docs" / "examples.png") as shown:
        assert sheet.size == shown.size
    right = 0
    for prompt, picture in zip(prompts, pictures, strict=True):
        scene = Oracle().read(picture)
        assert scene is not None
        (thing,) = scene.things
        assert f"{thing.colour} " in prompt
        assert f"{scene.background} background" in prompt
        right += any(name in prompt for name in NAMES.get(thing.shape, (thing.shape,)))
    assert right >= len(prompts) - 2
