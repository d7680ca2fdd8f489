"""`python -m pipelines`: every field of a spec from the command line, and pictures into files."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel
from skimage import data

from pipelines.__main__ import main
from pipelines.catalogue import FILE, family_folder
from pipelines.events import Pixels
from pipelines.images.files import read_picture
from pipelines.performance import MODES
from pipelines.spec import Canvas, Spec
from tests.pages import ROOT, page
from tests.pipelines.studio import Studio

Captured = pytest.CaptureFixture[str]
SMALL = ("--size", "64x64", "--performance", "Lightning", "--seed", "7", "--device", "cpu")
PROMPT = "a red circle on a blue background"

# by field: options, and what they come to
FIELDS: dict[str, tuple[tuple[str, ...], Any]] = {
    "negative_prompt": (("--negative-prompt", "a star"), "a star"),
    "size": (("--size", "768x1024"), {"width": 768, "height": 1024}),
    "seeds": (("--seed", "1", "--seed", "2"), [1, 2]),
    "steps": (("--steps", "12"), 12),
    "sampler": (("--sampler", "heun"), "heun"),
    "schedule": (("--schedule", "simple"), "simple"),
    "guidance": (
        ("--scale", "6", "--mimicked", "off", "--sharpness", "5", "--rescale", "0.7", "--sizes", "1.2,0.9,0.5"),
        {
            "scale": 6.0,
            "mimicked": None,
            "sharpness": 5.0,
            "rescale": 0.7,
            "sizes": {"positive": 1.2, "negative": 0.9, "end": 0.5},
        },
    ),
    "loras": (
        ("--lora", "a.safetensors", "--lora", "b:c.safetensors:0.4"),
        [("a.safetensors", 1.0), ("b:c.safetensors", 0.4)],
    ),
    "pictures": (
        (
            *("--start", "s.png", "--strength", "0.6", "--keep-aspect", "--crop"),
            *("--structure", "CPDS:a.png", "--structure", "PyraCanny:b:2.png:0.8:0.5"),
            *("--image-prompt", "c:3.png:0.6", "--face-swap", "d.png:0.7:0.9"),
        ),
        [
            {"role": "start", "source": "s.png", "strength": 0.6, "keep_aspect": True, "crop": True},
            {"role": "structure", "kind": "CPDS", "source": "a.png", "weight": 1.0, "stop_at": 1.0},
            {"role": "structure", "kind": "PyraCanny", "source": "b:2.png", "weight": 0.8, "stop_at": 0.5},
            {"role": "reference", "kind": "ImagePrompt", "source": "c:3.png", "weight": 0.6, "stop_at": 1.0},
            {"role": "reference", "kind": "FaceSwap", "source": "d.png", "weight": 0.7, "stop_at": 0.9},
        ],
    ),
    "check_safety": (("--check-safety",), True),
}

CANVAS = (
    *("--inpaint", "i.png", "--mask", "m.png", "--invert-mask", "--grow", "-4", "--strength", "0.7"),
    *("--outpaint", "Left", "--outpaint", "Top", "--engine", "v1", "--field", "0.3", "--no-initial-latent"),
    *("--resolution", "512"),
)


def printed(capsys: Captured, *options: str) -> dict[str, Any]:
    assert main([*options, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def plainly(field: str, found: Any) -> Any:
    """Without what says where in the command line it stood."""
    if field == "loras":
        return [(each["source"], each["scale"]) for each in found]
    if field == "pictures":
        return [{name: value for name, value in each.items() if name != "field"} for each in found]
    return found


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_of_a_spec_has_its_option(capsys: Captured, field: str) -> None:
    options, wanted = FIELDS[field]
    plain, found = printed(capsys, "a", "--seed", "3"), printed(capsys, "a", "--seed", "3", *options)
    if field == "seeds":
        wanted = [3, *wanted]
    assert plainly(field, found[field]) == wanted
    changed = {name for name in found if found[name] != plain[name]}
    assert changed - {field} == ({"size"} if field == "pictures" else set())  # a start says the size


def test_each_option_of_a_canvas_has_its_field(capsys: Captured) -> None:
    canvas, mask, structure = printed(capsys, "a", *CANVAS, "--structure", "CPDS:a.png")["pictures"]
    assert canvas == {
        "role": "canvas",
        "source": "i.png",
        "field": "--inpaint",
        "engine_field": "",
        "inverted": True,
        "grow": -4,
        "strength": 0.7,
        "outpaint": ["Left", "Top"],
        "engine": "v1",
        "respective_field": 0.3,
        "initial_latent": False,
        "resolution": 512,
    }
    assert canvas.keys() == {*Canvas.model_fields}
    assert mask == {"role": "mask", "source": "m.png", "field": "--mask"}
    assert structure["role"] == "structure"
    plain = printed(capsys, "a", "--inpaint", "i.png")["pictures"]
    assert plain == [Canvas(source="i.png", field="--inpaint").model_dump(mode="json")]


@pytest.mark.parametrize("option", [("--mask", "m.png"), ("--grow", "3"), ("--outpaint", "Left")])
def test_options_of_inpainting_need_a_picture(capsys: Captured, option: tuple[str, str]) -> None:
    with pytest.raises(SystemExit):
        main(["a", *option, "--json"])
    assert "need --inpaint" in capsys.readouterr().err


# fields that no option names, and why
DERIVED = {
    "expand_prompt": "the prompt expander is not built",
    "loras.field": "the option itself, for what is told of it",
    "pictures.start.field": "likewise",
    "pictures.start.role": "which option it is",
    "pictures.canvas.engine_field": "likewise",
    **{
        f"pictures.{role}.{name}": "likewise"
        for role in ("structure", "reference", "vary", "upscale", "canvas", "mask")
        for name in ("field", "role")
    },
}


def fields_of(model: type[BaseModel], within: str = "") -> Iterator[str]:
    """Every field of a model and of the models in it, dotted; of pictures by their role."""
    for name, field in model.model_fields.items():
        inner = [*models_in(field.annotation)]
        for each in inner:
            role = each.model_fields["role"].default + "." if "role" in each.model_fields else ""
            yield from fields_of(each, f"{within}{name}.{role}")
        if not inner:
            yield within + name


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def changed_fields(content: BaseModel, within: str = "") -> Iterator[str]:
    """Likewise, those that have another value than they would have of themselves."""
    for name, field in type(content).model_fields.items():
        value = getattr(content, name)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, BaseModel):
                role = f"{each.role}." if hasattr(each, "role") else ""
                yield from changed_fields(each, f"{within}{name}.{role}")
            elif field.is_required() or each != field.default:
                yield within + name


def test_no_field_is_without_an_option_nor_one_within_a_field(capsys: Captured) -> None:
    """Whoever adds a field to the spec adds an option and its line above, or says why there is none."""
    options = [option for options, _ in FIELDS.values() for option in options]
    options[options.index("off")] = "3"  # what it is without the option
    lines = (  # of what begins a picture there is one; the service checks, a command when told to
        [PROMPT, "--performance", "Lightning", "--vary", "x.png"],
        [PROMPT, "--upscale", "x.png", "--strength", "0.5"],
        [PROMPT, *CANVAS],
        [PROMPT, *options, "--keep-aspect", "--crop"],
    )
    specs = [Spec.model_validate(printed(capsys, *line)) for line in lines]
    assert {*fields_of(Spec)} - {path for spec in specs for path in changed_fields(spec)} - {*DERIVED} == set()
    assert {*DERIVED} <= {*fields_of(Spec)}


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_gives_its_numbers_and_the_other_options_override_them(capsys: Captured, mode: Any) -> None:
    found = Spec.model_validate(printed(capsys, "a", "--performance", mode))
    of = MODES[mode]
    assert (found.steps, found.sampler, found.schedule) == (of.steps, of.sampler, of.schedule)
    assert found.guidance == of.guidance(4.0, 2.0)
    assert found.loras == ((of.lora,) if of.lora else ())
    other = Spec.model_validate(printed(capsys, "a", "--performance", mode, "--steps", "9", "--scale", "3"))
    assert (other.steps, other.guidance.scale, other.sampler) == (9, 3.0, of.sampler)


@pytest.mark.parametrize(
    ("options", "begun", "steps"),
    [
        (("--vary", "v.png"), {"role": "vary", "source": "v.png", "strength": 0.85}, 30),
        (("--vary", "v.png", "--strength", "0.5"), {"role": "vary", "source": "v.png", "strength": 0.5}, 30),
        (("--upscale", "u.png"), {"role": "upscale", "source": "u.png", "factor": 2.0, "strength": 0.382}, 18),
        (
            ("--upscale", "u.png", "--factor", "1.5", "--strength", "0.2", "--steps", "0"),
            {"role": "upscale", "source": "u.png", "factor": 1.5, "strength": 0.2},
            0,
        ),
    ],
    ids=str,
)
def test_a_picture_can_be_varied_or_enlarged(
    capsys: Captured, options: tuple[str, ...], begun: dict[str, Any], steps: int
) -> None:
    found = printed(capsys, "a", *options)
    assert plainly("pictures", found["pictures"]) == [begun]
    assert (found["size"], found["steps"]) == (None, steps)
    with pytest.raises(SystemExit):
        main(["a", "--start", "s.png", *options, "--json"])
    assert "one start" in capsys.readouterr().err


def test_a_picture_that_is_just_enlarged_is_one_whatever_the_seeds_are(
    pocket_family_folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    small, out = tmp_path / "small.png", tmp_path / "out.png"
    Image.fromarray(data.coffee()[:96, :128]).save(small)
    family = ("--family", str(pocket_family_folder))
    assert main(["--upscale", str(small), "--steps", "0", "--seed", "1", "--seed", "2", *family, "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"{out} (seed 1)\n"
    assert picture(out).shape == (896, 1152, 3)  # Fooocus enlarges small pictures to a shape ceil of 1024


def test_without_a_seed_there_is_any(capsys: Captured) -> None:
    one, other = (printed(capsys, "a")["seeds"] for _ in range(2))
    assert len(one) == 1
    assert one != other


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


def test_what_the_safety_checker_objects_to_is_black(
    pocket_family_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.safety.SafetyChecker.flags", lambda _, images: [True] * len(images))
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
    assert "`python -m models pull safety_checker --family bare`" in refused(capsys, *family, "--check-safety")
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


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--steps", "0"), "steps: "),
        (("--steps", "many"), "argument --steps"),
        (("--size", "100x64"), "both multiples of 8"),
        (("--sizes", "1,2"), "three numbers"),
        (("--mimicked", "on"), "neither a number nor off"),
        (("--sampler", "dice"), "argument --sampler"),
        (("--structure", "edges:x.png"), "PyraCanny"),
        (("--start", "x.png", "--strength", "2"), "strength: "),
        (
            ("--strength", "0.5"),
            "--strength: it says something of --inpaint or --start or --upscale or --vary, and there is none",
        ),
        (("--vary", "x.png", "--crop"), "--crop: it says something of --start, and there is none"),
        (("--spec", "x.json"), "--spec is the whole spec"),
        (("-o", "out.jpg"), "must end in .png"),
        (("-o", "no/such/folder/out.png"), "folder that exists"),
    ],
    ids=str,
)
def test_a_bad_option_is_argparses_affair(capsys: Captured, options: tuple[str, ...], told: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([PROMPT, "--family", "x", *options])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_a_family_is_needed_to_draw(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        main([PROMPT])
    assert "--family is needed" in capsys.readouterr().err


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
