"""The options of `python -m pipelines`: one for each field of a spec, and what they come to. Free of torch."""

import argparse
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from pydantic import ValidationError

from pipelines.catalogue import family_folder
from pipelines.performance import MODES, PerformanceName
from pipelines.settings import DrawingSettings
from pipelines.spec import (
    Embedding,
    InpaintEngine,
    Lora,
    OutpaintSide,
    Reference,
    ReferenceKind,
    SafetyCheckerVersion,
    SamplerName,
    ScheduleName,
    Size,
    SizeEmphasis,
    Spec,
    Structure,
    StructureKind,
    Upscale,
)

SCALE, SHARPNESS = 4.0, 2.0  # Fooocus' own defaults
STRENGTH = 0.95
VARIED, ENLARGED = 0.85, Upscale.model_fields["strength"].default
FACTOR = 2.0
SIDE = 1024


class Options(argparse.Namespace):
    """What was given. spec: what to draw, made of all options that describe it. family: there unless json is."""

    family: Path
    out: Path
    styles_folder: Path | None
    wildcards_folder: Path | None
    device: str | None
    dtype: str | None
    json: bool
    verbose: bool
    spec: Spec


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read a command line. Exits with a usage error where it makes no sense, as argparse does."""
    parser = _parser()
    given = parser.parse_args(arguments, Options())
    described = {name: vars(given).pop(name) for name in _SPEC_OPTIONS & vars(given).keys()}
    file: Path | None = vars(given).pop("spec_file")
    if given.family is None and not given.json:
        parser.error("--family is needed to draw")
    if given.out.suffix.lower() != ".png" or not given.out.absolute().parent.is_dir():
        parser.error(f"argument -o/--out: {given.out} must end in .png and lie in a folder that exists")
    for name, of in _OF_PICTURES.items():
        if name in described and not of & described.keys():
            pictures = " or ".join(f"--{each}" for each in sorted(of))
            parser.error(f"argument --{name.replace('_', '-')}: it says something of {pictures}, and there is none")
    if file is not None and described:
        parser.error("--spec is the whole spec: leave out the prompt and the options that describe another one")
    if described.keys() & {*_CANVAS_OPTIONS, "mask"} and "inpaint" not in described:
        parser.error("--mask and the options of inpainting need --inpaint")
    try:
        given.spec = Spec.model_validate_json(file.read_bytes()) if file else _spec(**described)
    except OSError as fault:
        parser.error(f"argument --spec: {fault}")
    except ValidationError as fault:
        told = [f"{'.'.join(map(str, error['loc'])) or '--spec'}: {error['msg']}" for error in fault.errors()]
        parser.error("; ".join(told))
    return given


def _spec(
    prompt: str = "",
    performance: PerformanceName = "Speed",
    size: Size | None = None,
    seed: Sequence[int] = (),
    lora: Sequence[Lora] = (),
    force: bool = False,
    start: str | None = None,
    vary: str | None = None,
    upscale: str | None = None,
    factor: float = FACTOR,
    strength: float | None = None,
    keep_aspect: bool = False,
    crop: bool = False,
    mask: str | None = None,
    structure: Sequence[Structure] = (),
    image_prompt: Sequence[Reference] = (),
    face_swap: Sequence[Reference] = (),
    refiner: float | None = None,
    refiner_method: str = "joint",
    **fields: Any,
) -> Spec:
    """A spec of what a performance mode says and what was given beside it, which wins."""
    mode = MODES[performance]
    led = {name: fields.pop(name) for name in _GUIDANCE_OPTIONS & fields.keys()}
    pictures: list[Any] = [*structure, *image_prompt, *face_swap]
    share = {} if strength is None else {"strength": strength}
    if start is not None:
        fit = {"keep_aspect": keep_aspect, "crop": crop, "strength": STRENGTH}
        pictures.insert(0, {"role": "start", "source": start, "field": "--start", **fit, **share})
    if vary is not None:
        pictures.insert(0, {"role": "vary", "source": vary, "field": "--vary", "strength": VARIED, **share})
    if upscale is not None:
        pictures.insert(0, {"role": "upscale", "source": upscale, "field": "--upscale", "factor": factor, **share})
    if canvas := {name: fields.pop(name) for name in _CANVAS_OPTIONS & fields.keys()}:
        source = canvas.pop("inpaint")
        pictures.insert(0, {"role": "canvas", "source": source, "field": "--inpaint", **canvas, **share})
    if mask is not None:
        pictures.insert(1, {"role": "mask", "source": mask, "field": "--mask"})
    sized = (start, vary, upscale) == (None, None, None)
    return Spec.model_validate(
        {
            "prompt": prompt,
            "size": size or (Size(width=SIDE, height=SIDE) if sized else None),
            "seeds": tuple(seed) or (secrets.randbits(32),),
            "steps": mode.steps if upscale is None else mode.enlarged_steps,
            "sampler": mode.sampler,
            "schedule": mode.schedule,
            "guidance": {**mode.guidance(SCALE, SHARPNESS).model_dump(), **led},
            "loras": (
                *((mode.lora,) if mode.lora else ()),
                *(each.model_copy(update={"force": force}) for each in lora),
            ),
            "refiner": None if refiner is None else {"switch": refiner, "method": refiner_method, "field": "--refiner"},
            "pictures": tuple(pictures),
            "check_safety": False,
            **fields,
        }
    )


_GUIDANCE_OPTIONS = frozenset({"scale", "mimicked", "sharpness", "rescale", "sizes"})
_CANVAS_OPTIONS = frozenset(
    {"inpaint", "outpaint", "engine", "respective_field", "initial_latent", "grow", "inverted", "resolution"}
)
_SPEC_OPTIONS = (
    _GUIDANCE_OPTIONS
    | _CANVAS_OPTIONS
    | {
        "mask",
        *(
            "prompt",
            "negative_prompt",
            "styles",
            "performance",
            "size",
            "seed",
            "steps",
            "sampler",
            "schedule",
            "lora",
            "force",
            "embeddings",
        ),
        *("start", "vary", "upscale", "factor", "strength", "keep_aspect", "crop", "structure"),
        *("image_prompt", "face_swap", "expand_prompt", "check_safety", "safety_checker_version"),
        *("refiner", "refiner_method"),
    }
)


_OF_PICTURES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "strength": frozenset({"start", "vary", "upscale", "inpaint"}),
        "factor": frozenset({"upscale"}),
        "keep_aspect": frozenset({"start"}),
        "crop": frozenset({"start"}),
        "force": frozenset({"lora"}),
        "safety_checker_version": frozenset({"check_safety"}),
        "refiner_method": frozenset({"refiner"}),
    }
)
"""Options that mean nothing without one of others."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines",
        usage="python -m pipelines [PROMPT] --family NAME|FOLDER [-o FILE] [options]",
        description="Draw pictures on this machine, without the service.",
        epilog="What a performance mode says, the other options override.",
    )
    # what describes a spec is absent where it is not given, so that the defaults stand in one place
    add = _adder(parser, argparse.SUPPRESS)
    add("prompt", nargs="?", help="what to draw; several lines are several prompts that are drawn at once")
    add("--negative-prompt", metavar="TEXT", help="what not to draw")
    add("--style", dest="styles", action="append", metavar="NAME", help="whose texts are put round it; repeatable")
    add(
        "--expand",
        dest="expand_prompt",
        action="store_true",
        help="let the family's language model add words to the prompt",
    )
    add("--performance", choices=get_args(PerformanceName), help="Fooocus' modes (default: Speed)")
    add(
        "--size",
        type=_size,
        metavar="WIDTHxHEIGHT",
        help=f"in pixels (default: that of the picture it begins from, else {SIDE}x{SIDE})",
    )
    add("--seed", type=int, action="append", metavar="N", help="one picture each; can be given again (default: any)")
    add("--steps", type=int, metavar="N", help="of the denoising")
    add("--sampler", choices=get_args(SamplerName))
    add("--schedule", choices=get_args(ScheduleName), help="of the noise")
    add("--scale", type=float, metavar="S", help=f"of the guidance (default: {SCALE:g}, in fast modes 1)")
    add("--mimicked", type=_number_or_off, metavar="S", help="early steps are led as if the scale were this; or off")
    add("--sharpness", type=float, metavar="N", help=f"0 to 30 (default: {SHARPNESS:g}, in fast modes 0)")
    add("--rescale", type=float, metavar="SHARE", help="of the guided prediction's deviation, against overexposure")
    add(
        "--sizes", type=_sizes, metavar="POSITIVE,NEGATIVE,END", help="what the prompts are told of the size, until END"
    )
    add("--lora", type=_lora, action="append", metavar="FILE[:SCALE]", help="or a name of the family's; repeatable")
    add("--force", action="store_true", help="take of a LoRA what fits, where not all of it does")
    add(
        "--embedding",
        dest="embeddings",
        type=_embedding,
        action="append",
        metavar="FILE[=TOKEN,...]",
        help="or a name of the family's; how the prompts spell it (default: <s0>,<s1>); repeatable",
    )
    add("--refiner", type=float, metavar="SHARE", help="of the steps after which the family's refiner takes over")
    add(
        "--refiner-method", choices=("joint", "separate"), help="in the same run, or in one of its own (default: joint)"
    )
    add("--start", metavar="FILE", help="a picture to begin from")
    add("--keep-aspect", action="store_true", help="of that picture, within --size, in multiples of 32")
    add("--crop", action="store_true", help="draw in multiples of 32 and cut to the exact proportions")
    add("--vary", metavar="FILE", help="a picture to draw variations of")
    add("--upscale", metavar="FILE", help="a picture to enlarge and draw over; with --steps 0, to enlarge alone")
    add("--factor", type=float, metavar="N", help=f"by which it is enlarged (default: {FACTOR:g})")
    add(
        "--strength",
        type=float,
        metavar="SHARE",
        help=f"of its noise (default: {STRENGTH:g}; to vary {VARIED:g}, to enlarge {ENLARGED:g}, to inpaint 1)",
    )
    add("--inpaint", metavar="FILE", help="a picture of which a part is drawn anew")
    add("--mask", metavar="FILE", help="white is drawn anew of that picture")
    add("--invert-mask", dest="inverted", action="store_true", help="what the mask leaves out is drawn anew")
    add("--grow", type=int, metavar="PIXELS", help="by which the mask grows before it is inverted, or shrinks below 0")
    add("--outpaint", choices=get_args(OutpaintSide), action="append", help="a side to continue it at; repeatable")
    add("--engine", choices=get_args(InpaintEngine), help="version of the inpaint model (default: v2.6)")
    add("--field", dest="respective_field", type=float, metavar="SHARE", help="of the picture around (default: 0.618)")
    add("--no-initial-latent", dest="initial_latent", action="store_false", help="begin the part from noise alone")
    add("--resolution", type=int, metavar="SIDE", help="of a square of as many pixels as the part (default: 1024)")
    kinds = " or ".join(get_args(StructureKind))
    add(
        "--structure",
        type=_structure,
        action="append",
        metavar="KIND:FILE[:WEIGHT[:STOP_AT]]",
        help=f"a picture that shows where things are, by {kinds}; repeatable",
    )
    acting: Mapping[str, tuple[ReferenceKind, str]] = {
        "--image-prompt": ("ImagePrompt", "a picture whose looks are taken over; repeatable"),
        "--face-swap": ("FaceSwap", "a picture whose face is taken over; repeatable"),
    }
    for name, (kind, told) in acting.items():
        reads = partial(_reference, name, kind)
        add(name, type=reads, action="append", metavar="FILE[:WEIGHT[:STOP_AT]]", help=told)
    add("--check-safety", action="store_true", help="black out what the family's safety checker objects to")
    add("--safety-checker-version", choices=get_args(SafetyCheckerVersion), help="which one (default: v1)")
    own = _adder(parser, None)
    own("--spec", type=Path, dest="spec_file", metavar="FILE", help="draw this spec, as --json prints one")
    own("--json", action="store_true", default=False, help="print the spec and draw nothing")
    own("--family", type=family_folder, metavar="NAME|FOLDER", help="of the model: a folder, or one in var/families")
    own(
        "-o",
        "--out",
        type=Path,
        default=Path("out.png"),
        metavar="FILE",
        help="(default: out.png; several: out-1.png ...)",
    )
    own("--styles-folder", type=Path, metavar="FOLDER", help="of styles of your own, in files of Fooocus' format")
    own("--wildcards-folder", type=Path, metavar="FOLDER", help="NAME.txt says what __NAME__ in a prompt may become")
    own("--device", help="of torch (default: cuda where there is one, else cpu)")
    dtypes = get_args(DrawingSettings.model_fields["dtype"].annotation)
    own("--dtype", choices=dtypes, help="(default: bfloat16, on the CPU float32)")
    own("-v", "--verbose", action="store_true", default=False, help="show the log")
    return parser


def _adder(parser: argparse.ArgumentParser, default: Any) -> Callable[..., Any]:
    def add(*names: str, **how: Any) -> None:
        parser.add_argument(*names, **{"default": default, **how})

    return add


def _size(text: str) -> Size:
    width, _, height = text.partition("x")
    try:
        return Size(width=int(width), height=int(height))
    except ValueError:  # pydantic's too
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, both multiples of 8") from None


def _number_or_off(text: str) -> float | None:
    try:
        return None if text == "off" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor off") from None


def _sizes(text: str) -> SizeEmphasis:
    try:
        positive, negative, end = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers with commas between") from None
    return SizeEmphasis(positive=positive, negative=negative, end=end)


def _lora(text: str) -> Lora:
    source, scales = _numbers_behind(text, 1)
    return Lora(source=source, scale=scales[0] if scales else 1.0, field=f"--lora {source}")


def _embedding(text: str) -> Embedding:
    source, equals, tokens = text.rpartition("=")
    given = {"tokens": tuple(tokens.split(","))} if equals else {}
    return Embedding.model_validate({"source": source or tokens, "field": f"--embedding {source or tokens}", **given})


def _structure(text: str) -> Structure:
    kind, _, rest = text.partition(":")
    if kind not in get_args(StructureKind) or not rest:
        raise argparse.ArgumentTypeError(f"{text!r} is not KIND:FILE with one of {', '.join(get_args(StructureKind))}")
    source, numbers = _numbers_behind(rest, 2)
    acts = dict(zip(("weight", "stop_at"), numbers, strict=False))
    return Structure.model_validate({"kind": kind, "source": source, "field": f"--structure {source}", **acts})


def _reference(name: str, kind: ReferenceKind, text: str) -> Reference:
    source, numbers = _numbers_behind(text, 2)
    acts = dict(zip(("weight", "stop_at"), numbers, strict=False))
    return Reference.model_validate({"kind": kind, "source": source, "field": f"{name} {source}", **acts})


def _numbers_behind(text: str, most: int) -> tuple[str, list[float]]:
    """A name and up to `most` numbers behind it, each after a colon."""
    numbers: list[float] = []
    while len(numbers) < most:
        name, colon, last = text.rpartition(":")
        try:
            number = float(last)
        except ValueError:
            break
        if not colon or not name:
            break
        text, numbers = name, [number, *numbers]
    return text, numbers
