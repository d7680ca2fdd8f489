"""The GPU's benchmark: it counts what SDXL costs, fills its tables, and needs nothing that its machine lacks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from benchmarks.device.engine import PLAIN, SWITCHES, EnginePath, Picture
from benchmarks.device.rows import FOOOCUS, UNGUIDED, UNLIKE_ROWS, Additions, difference, evaluations, guide
from benchmarks.gpu_sdxl import main, options
from benchmarks.sdxl import UNET, Models, build, cost

ROOT = Path(__file__).resolve().parents[2]
ABSENT = ("ray", "gateway", "deployments", "models", "pydantic")
CPU = torch.device("cpu")

# diffusers' scheduler hands a tensor to numpy in a way that numpy 2 deprecates
ignores_numpy = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def models() -> Models:
    return build(pocket=True, device=CPU, dtype=torch.float32)


def test_the_architecture_is_sdxl_and_the_floor_is_its_arithmetic() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(UNET))
    assert sum(parameter.numel() for parameter in unet.parameters()) == 2_567_463_684
    large = cost(1024, pocket=False)
    assert large.unet_row == pytest.approx(6.761e12, rel=1e-4)
    assert large.decode == pytest.approx(10.47e12, rel=1e-4)


@ignores_numpy
@pytest.mark.long  # it compiles each switch's calls: a minute and more
def test_it_measures_each_switch_after_its_answers_were_held_to_the_plain_path(tmp_path: Path) -> None:
    assert main(["--pocket", "--out", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "gpu_sdxl_pocket.json").read_bytes())
    around, calls, pictures, arrivals, merging = written["tables"].values()
    assert [row["part"] for row in around] == [
        "both text encoders, one prompt",
        "VAE decode at 64, to pixels in memory",
    ]
    for switch in (PLAIN, *SWITCHES):
        own = [row for row in calls if row["switch"] == switch.name]
        kinds = {(row["kind"], row["rows"]) for row in own}
        assert {("alike", 8), ("guided as Fooocus guides", 8), ("of every kind", UNLIKE_ROWS)} <= kinds
        assert all(row["equal"] == "yes" and row["ms"] > 0 for row in own), own
        assert all(row["difference of 255"] <= 1 for row in pictures if row["switch"] == switch.name)
        if switch.compiled:
            assert own[-1]["signatures compiled"] >= 2
    for row in pictures:
        assert row["engine / diffusers"] == pytest.approx(row["engine s"] / row["diffusers s"])
    assert [row["competitor"] for row in arrivals] == ["one after the other", "engine, plain", "engine, ahead"]
    assert merging[0]["difference"] == 0
    facts = written["facts"]
    assert facts["left out for want of time"] == "nothing"
    assert facts["matrix rate at the end, TFLOP/s"] > 0
    assert written["command"] in (tmp_path / "gpu_sdxl_pocket.md").read_text(encoding="utf-8")


def test_what_would_begin_after_the_budget_is_left_out_and_named(tmp_path: Path) -> None:
    assert main(["--pocket", "--budget", "0", "--out", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "gpu_sdxl_pocket.json").read_bytes())
    assert not any(written["tables"].values())
    left_out = written["facts"]["left out for want of time"].split("; ")
    assert left_out[:2] == ["around the UNet", "plain: calls at 64"]
    assert {"plain, beside float32", "merging", "arrivals at 64"} < set(left_out)
    assert {f"{switch.name}: every kind of row at 64" for switch in SWITCHES} < set(left_out)


@torch.inference_mode()
def test_every_addition_to_a_row_changes_its_answer_and_no_other(models: Models) -> None:
    stage = EnginePath(models, PLAIN, 16).stage
    unlike = Additions.build(models).unlike(models, 64)
    bare = [*evaluations(models, 64, 4, UNGUIDED), *evaluations(models, 64, 2, FOOOCUS)]
    assert sum(ask.rows for ask in unlike) == UNLIKE_ROWS
    together, without = stage.run(unlike).values, stage.run(bare).values
    changes = [difference([ask], [one], [other]) for ask, one, other in zip(bare, together, without, strict=True)]
    changes.sort()
    assert changes[0] < 1e-4 < 1e-2 < changes[1]  # one of them carries nothing


@torch.inference_mode()
def test_a_difference_is_told_in_deviations_of_the_predicted_noise(models: Models) -> None:
    (ask,) = evaluations(models, 64, 1, UNGUIDED)
    noise = torch.randn(ask.x.shape)
    moved = noise.clone()
    moved[0, 0, 0] += 0.5 * noise.std()
    assert difference([ask], [ask.x - ask.sigma * moved], [ask.x - ask.sigma * noise]) == pytest.approx(0.5, rel=1e-3)


def test_pictures_that_are_drawn_at_once_share_every_call(models: Models) -> None:
    pictures = [Picture(64, 3, seed, guide(models, 64, seed, UNGUIDED)) for seed in range(4)]
    drawing = EnginePath(models, PLAIN, 16).drawing()
    try:
        assert len(drawing.draw(pictures)) == 4
        assert (drawing.stats().unet_calls, drawing.stats().unet_rows) == (3, 12)
    finally:
        drawing.close()


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
