"""A family of its checkpoint alone draws a picture from a prompt."""

import json
import queue
import shutil
from pathlib import Path

import pytest

from pipelines.drawing import Drawer
from pipelines.events import Drawn
from pipelines.preparing import prepare
from pipelines.settings import DrawingSettings
from pipelines.spec import Guidance, Size
from tests.pipelines.studio import last, spec


@pytest.fixture
def alone(tmp_path: Path, pocket_family_folder: Path) -> Path:
    """The pocket family without parts and LoRAs: none of their files is there."""
    file = json.loads((pocket_family_folder / "family.json").read_bytes())
    shutil.copy(pocket_family_folder / file["checkpoint"], tmp_path / file["checkpoint"])
    shutil.copytree(pocket_family_folder / file["config"], tmp_path / file["config"])
    (tmp_path / "family.json").write_text(
        json.dumps({**file, "parts": {}, "loras": {}, "files": {}, "refiner_config": None})
    )
    return tmp_path


def test_it_draws_text(alone: Path) -> None:
    wanted = spec(
        size=Size(width=64, height=64),
        steps=2,
        sampler="dpmpp_2m_sde",
        schedule="karras",
        guidance=Guidance(scale=4.0),
        loras=(),
        check_safety=False,
    )
    drawer = Drawer.open(DrawingSettings(family=alone, threads=1))
    try:
        events: queue.Queue[object] = queue.Queue()
        drawer.submit("one", wanted, prepare(wanted, [], []), events.put)
        drawn = last(events)
    finally:
        drawer.close()
    assert isinstance(drawn, Drawn)
    assert drawn.images.shape == (1, 64, 64, 3)
    assert drawn.images.std() > 1
