"""The options of `python -m pipelines`: one for every field of a spec, and what is refused."""

import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from pipelines.__main__ import main
from pipelines.performance import MODES
from pipelines.spec import Canvas, Spec

Captured = pytest.CaptureFixture[str]
PROMPT = "a red circle on a blue background"

# by field: options, and what they come to
FIELDS: dict[str, tuple[tuple[str, ...], Any]] = {
    "negative_prompt": (("--negative-prompt", "a star"), "a star"),
    "styles": (("--style", "SAI Anime", "--style", "Fooocus Sharp"), ["SAI Anime", "Fooocus Sharp"]),
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
        ("--lora", "a.safetensors", "--lora", "b:c.safetensors:0.4", "--force"),
        [("a.safetensors", 1.0, True), ("b:c.safetensors", 0.4, True)],
    ),
    "embeddings": (
        ("--embedding", "a.safetensors", "--embedding", "b=c.safetensors=<x>,y"),
        [("a.safetensors", ["<s0>", "<s1>"]), ("b=c.safetensors", ["<x>", "y"])],
    ),
    "refiner": (
        ("--refiner", "0.7", "--refiner-method", "separate"),
        {"switch": 0.7, "method": "separate", "field": "--refiner"},
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
    "expand_prompt": (("--expand",), True),
    "check_safety": (("--check-safety",), True),
    "safety_checker_version": (("--check-safety", "--safety-checker-version", "v2"), "v2"),
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
        return [(each["source"], each["scale"], each["force"]) for each in found]
    if field == "embeddings":
        return [(each["source"], each["tokens"]) for each in found]
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
    # a start says the size, and a version is of a check that is made
    beside = {"pictures": {"size"}, "safety_checker_version": {"check_safety"}}
    assert changed - {field} == beside.get(field, set())


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


def test_without_a_seed_there_is_any(capsys: Captured) -> None:
    one, other = (printed(capsys, "a")["seeds"] for _ in range(2))
    assert len(one) == 1
    assert one != other


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
