"""`python -m pipelines`: pictures into files, and what is told of them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage import data

from pipelines.__main__ import main
from pipelines.catalogue import FILE, family_folder
from pipelines.events import Pixels
from pipelines.images.files import read_picture
from pipelines.spec import Spec
from pipelines.weights.family import Family
from tests.pages import ROOT, page
from tests.pipelines.studio import Studio

Captured = pytest.CaptureFixture[str]
SMALL = ("--size", "64x64", "--performance", "Lightning", "--seed", "7", "--device", "cpu")
PROMPT = "a red circle on a blue background"


def printed(capsys: Captured, *options: str) -> dict[str, Any]:
    assert main([*options, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def picture(path: Path) -> Pixels:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.array(image)


def test_a_picture_is_drawn_as_the_service_draws_it(
    pocket_family: Any, pocket_family_folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "out.png"
    assert main([PROMPT, *SMALL, "--family", str(pocket_family_folder), "-o", str(out)]) == 0
    assert capsys.readouterr() == (f"{out} (seed 7)\n", "")
    spec = Spec.model_validate(printed(capsys, PROMPT, *SMALL))
    studio = Studio(pocket_family)
    try:
        wanted = studio.draw(spec)[0]
    finally:
        studio.drawer.close()
    assert np.abs(picture(out).astype(int) - wanted).max() <= 1


def test_a_picture_that_is_just_enlarged_is_one_whatever_the_seeds_are(
    pocket_family_folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    small, out = tmp_path / "small.png", tmp_path / "out.png"
    Image.fromarray(data.coffee()[:96, :128]).save(small)
    family = ("--family", str(pocket_family_folder))
    assert main(["--upscale", str(small), "--steps", "0", "--seed", "1", "--seed", "2", *family, "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"{out} (seed 1)\n"
    assert picture(out).shape == (896, 1152, 3)  # Fooocus enlarges small pictures to a shape ceil of 1024


def test_a_printed_spec_draws_the_same_and_several_pictures_are_numbered(
    pocket_family_folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    photo = tmp_path / "photo.jpg"
    Image.fromarray(data.astronaut()).save(photo)
    options = [PROMPT, *SMALL, "--seed", "8", "--structure", f"PyraCanny:{photo}:0.7:0.9", "--start", str(photo)]
    (tmp_path / "spec.json").write_text(json.dumps(printed(capsys, *options)))
    drawn = {}
    for name, given in {"one": options, "other": ["--spec", str(tmp_path / "spec.json"), "--device", "cpu"]}.items():
        assert main([*given, "--family", str(pocket_family_folder), "-o", str(tmp_path / f"{name}.png")]) == 0
        drawn[name] = [picture(tmp_path / f"{name}-{number}.png") for number in (1, 2)]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        *("one-1.png", "one-2.png", "other-1.png", "other-2.png")
    ]
    assert drawn["one"][0].shape == (64, 64, 3)
    assert np.array_equal(drawn["one"], drawn["other"])
    assert not np.array_equal(*drawn["one"])


def test_a_lora_that_acts_in_part_and_what_is_told_of_it(
    pocket_family: Family, pocket_family_folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    width = pocket_family.unet.conv_norm_out.weight.shape
    norm = {"lora_unet_out_0.w_norm": torch.ones(width), "lora_unet_out_0.b_norm": torch.ones(width)}
    save_file({**norm, "strange": torch.ones(1)}, tmp_path / "a.safetensors")
    given = [PROMPT, *SMALL, "--family", str(pocket_family_folder), "-o", str(tmp_path / "out.png")]
    drawn = []
    for options in ((), ("--lora", str(tmp_path / "a.safetensors"))):
        assert main([*given, *options]) == 0
        drawn.append(picture(tmp_path / "out.png"))
    assert "2 of the 3 tensors of this LoRA were applied, and not strange" in capsys.readouterr().err
    assert not np.array_equal(*drawn)


def test_pictures_whose_looks_are_taken_over_and_what_was_made_of_them(
    pocket_family_folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(data.astronaut()).save(photo)
    given = [PROMPT, *SMALL, "--family", str(pocket_family_folder), "-o", str(tmp_path / "out.png")]
    drawn = []
    for options in ((), ("--image-prompt", f"{photo}:0.8:0.9", "--face-swap", str(photo))):
        assert main([*given, *options]) == 0
        drawn.append(picture(tmp_path / "out.png"))
    assert f"--face-swap {photo}: no face detector is installed here" in capsys.readouterr().err
    assert not np.array_equal(*drawn)


def test_an_expanded_prompt_is_told_and_draws_another_picture(
    pocket_family_folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    given = [PROMPT, *SMALL, "--steps", "1", "--family", str(pocket_family_folder), "-o", str(tmp_path / "out.png")]
    drawn = []
    for options in ((), ("--expand",)):
        assert main([*given, *options]) == 0
        drawn.append(picture(tmp_path / "out.png"))
    assert f"The prompt was expanded: {PROMPT}, " in capsys.readouterr().err
    assert not np.array_equal(*drawn)


def test_what_the_safety_checker_objects_to_is_black(
    pocket_family_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.safety.Checker.flags", lambda _, images: [True] * len(images))
    given = [PROMPT, *SMALL, "--steps", "1", "--check-safety", "--family", str(pocket_family_folder)]
    assert main([*given, "-o", str(tmp_path / "out.png")]) == 0
    assert not picture(tmp_path / "out.png").any()


@pytest.fixture(scope="module")
def bare(pocket_family_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pocket family with its checkpoint alone."""
    folder = tmp_path_factory.mktemp("families") / "bare"
    folder.mkdir()
    file = json.loads((pocket_family_folder / FILE).read_text())
    shutil.copy(pocket_family_folder / file["checkpoint"], folder)
    shutil.copytree(pocket_family_folder / file["config"], folder / file["config"])
    kept = {name: file[name] for name in ("checkpoint", "config")}
    (folder / FILE).write_text(json.dumps({"name": "bare", "version": "1", **kept}))
    return folder


def refused(capsys: Captured, *options: str) -> str:
    """The one line that a run ends with."""
    assert main([PROMPT, *SMALL, *options]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_a_missing_part_is_told_with_the_command_that_brings_it(
    bare: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOOOCUS_FAMILIES", str(bare.parent))
    family = ("--family", str(bare), "-o", str(tmp_path / "out.png"), "--performance", "Speed")
    assert "`python -m models pull canny --family bare`" in refused(capsys, *family, "--structure", "PyraCanny:x.png")
    assert "`python -m models pull safety_checker --family bare --accept-unpinned`" in refused(
        capsys, *family, "--check-safety"
    )
    assert "`python -m models pull expansion --family bare --from FOLDER --accept-unpinned`" in refused(
        capsys, *family, "--expand"
    )
    told = refused(capsys, *family[:4])
    assert "`python -m models pull lightning_lora --family bare`" in told
    assert not (tmp_path / "out.png").exists()


def test_a_family_may_be_its_checkpoint_alone(bare: Path, tmp_path: Path) -> None:
    options = [PROMPT, *SMALL, "--performance", "Speed", "--steps", "2", "--family", str(bare)]
    assert main([*options, "-o", str(tmp_path / "out.png")]) == 0
    assert picture(tmp_path / "out.png").shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--family", "./nothing"), "There is no model family in nothing"),
        (("--lora", "nothing.safetensors"), "--lora nothing.safetensors: This LoRA is not one that is known here"),
        (("--start", "nothing.png"), "--start: nothing.png cannot be read as a picture"),
        (("--structure", f"CPDS:{__file__}"), "cannot be read as a picture"),
        (("--device", "abacus"), "--device: "),
        (("(a:1e308)",), "prompt: "),
    ],
    ids=str,
)
def test_what_cannot_be_drawn_is_told_in_one_line(
    pocket_family_folder: Path, tmp_path: Path, capsys: Captured, options: tuple[str, ...], told: str
) -> None:
    prompt, *rest = options if not options[0].startswith("-") else (PROMPT, *options)
    given = [prompt, *SMALL, "--family", str(pocket_family_folder), "-o", str(tmp_path / "out.png"), *rest]
    assert main(given) == 1
    out, err = capsys.readouterr()
    assert told in err
    assert err.count("\n") == 1
    assert out == ""


def test_a_family_is_a_folder_or_a_name_among_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert family_folder("./pocket") == Path("pocket")
    assert family_folder("/a/b") == Path("/a/b")
    assert family_folder("default") == Path("var/families/default")
    monkeypatch.setenv("FOOOCUS_FAMILIES", str(tmp_path))
    assert family_folder("default") == tmp_path / "default"


def test_pictures_are_read_upright_and_on_white(tmp_path: Path) -> None:
    turned = Image.fromarray(data.astronaut()[:64, :96])
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "turned.png"), np.rot90(data.astronaut()[:64, :96], 3))
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_picture(tmp_path / "clear.png") == 255).all()


def test_the_readme_shows_a_command_that_is_understood(capsys: Captured) -> None:
    shown = re.findall(r"`python -m pipelines (.+?)`", page("README.md"))
    assert shown
    for command in shown:
        assert main([*re.sub(r'"[^"]*"', "prompt", command).split(), "--json"]) == 0


def test_neither_help_nor_a_printed_spec_needs_torch() -> None:
    program = "import sys; from pipelines.__main__ import main; main(['a', '--json']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60).returncode == 0
