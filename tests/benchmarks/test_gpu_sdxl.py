"""The GPU's benchmark: it counts what SDXL costs, fills its tables, and needs nothing that its machine lacks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from benchmarks.gpu_sdxl import main, options
from benchmarks.sdxl import UNET, cost

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--pocket", "--sizes", "64", "--rows", "1", "2", "--steps", "2", "--pictures", "1", "2", "--repeats", "1"]
ABSENT = ("ray", "gateway", "deployments", "models", "pydantic")


def test_the_architecture_is_sdxl_and_the_floor_is_its_arithmetic() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(UNET))
    assert sum(parameter.numel() for parameter in unet.parameters()) == 2_567_463_684
    large = cost(1024, pocket=False)
    assert large.unet_row == pytest.approx(6.761e12, rel=1e-4)
    assert large.decode == pytest.approx(10.47e12, rel=1e-4)


# diffusers' scheduler hands a tensor to numpy in a way that numpy 2 deprecates
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_tables_hold_every_combination_with_plausible_numbers(tmp_path: Path) -> None:
    assert main([*SMALL, "--out", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "gpu_sdxl_pocket.json").read_bytes())
    parts, calls, pictures = written["tables"].values()
    assert [row["part"] for row in parts] == ["both text encoders, one prompt", "VAE decode at 64, to pixels in memory"]
    assert [(row["mode"], row["size"], row["rows"]) for row in calls] == [("eager", 64, 1), ("eager", 64, 2)]
    assert [(row["steps"], row["guidance"], row["pictures at once"]) for row in pictures] == [
        (2, guidance, at_once) for guidance in ("no", "yes") for at_once in (1, 2)
    ]
    assert calls[1]["floor ms"] == pytest.approx(2 * calls[0]["floor ms"])
    for row in (*calls, *pictures):
        assert all(value > 0 for name, value in row.items() if name not in ("mode", "guidance")), row
    for row in pictures:
        assert row["engine / diffusers"] == pytest.approx(row["engine s"] / row["diffusers s"])
    table = (tmp_path / "gpu_sdxl_pocket.md").read_text(encoding="utf-8")
    assert "| mode | size | steps | guidance | pictures at once | engine s | diffusers s |" in table
    assert written["command"] in table
    assert written["facts"]["matrix rate at the end, TFLOP/s"] > 0


def test_it_runs_where_the_service_is_not_installed() -> None:
    program = f"import sys\nfor name in {ABSENT!r}: sys.modules[name] = None\nimport benchmarks.gpu_sdxl\n"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_it_asks_for_a_gpu_or_for_the_pocket_size(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        options([])
    assert "--pocket" in capsys.readouterr().err
