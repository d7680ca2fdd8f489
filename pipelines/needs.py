"""What a spec needs of a family beside its checkpoint, and what is told where the family lacks it. Free of torch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Protocol
from urllib.parse import urlsplit

from pipelines.errors import InputFault
from pipelines.parts import Lacking, Part, lacks
from pipelines.prompts.embeddings import token_faults
from pipelines.prompts.lines import prompt_lines
from pipelines.prompts.lora_tags import take_lora_tags
from pipelines.spec import (
    InpaintEngine,
    Lora,
    Reference,
    ReferenceKind,
    SafetyCheckerVersion,
    Spec,
    Structure,
    StructureKind,
    Upscale,
)

CONTROLS: Mapping[StructureKind, Part] = MappingProxyType({"PyraCanny": "canny", "CPDS": "cpds"})
"""Which control network of a family reads the hint of a structure."""

PATCHES: Mapping[InpaintEngine, Part | None] = MappingProxyType(
    {"None": None, "v1": "inpaint_patch_v1", "v2.5": "inpaint_patch_v25", "v2.6": "inpaint_patch"}
)
"""Which patch of a family's UNet is a version of the inpaint model; all have the one head (fooocus-facts 6.7)."""

ADAPTERS: Mapping[ReferenceKind, Part] = MappingProxyType({"ImagePrompt": "image_prompt", "FaceSwap": "face_prompt"})
"""Which image-prompt adapter of a family reads a reference."""

CHECKERS: Mapping[SafetyCheckerVersion, Part] = MappingProxyType({"v1": "safety_checker", "v2": "safety_checker_v2"})
"""Which part of a family is a version of the safety checker."""

SEEING: tuple[Part, ...] = ("vision", "image_prompt_negative")  # what every such adapter needs beside itself

LORAS: Mapping[str, str] = MappingProxyType(
    {
        "sd_xl_offset_example-lora_1.0": "offset_lora",
        "SDXL_FILM_PHOTOGRAPHY_STYLE_V1": "film_lora",
        "sdxl_lcm_lora": "lcm_lora",
        "sdxl_lightning_4step_lora": "lightning_lora",
        "sdxl_hyper_sd_4step_lora": "hyper_sd_lora",
    }
)
"""The names under which well-known LoRAs are pulled, by the names of their files without suffix (fooocus-facts 9.1)."""

UNKNOWN_EMBEDDING = "This embedding is not one that is known here."
UNKNOWN_LORA = "This LoRA is not one that is known here."
TAG_FIELD = "prompt"  # where a client names a LoRA by a tag
MAX_LORAS = 5
"""With those that a prompt names, besides those of a performance mode (fooocus-facts 3.3)."""

_HUBS = ("", "huggingface.co")  # where a well-known name means the well-known file; none is a bare name


class Has(Lacking, Protocol):
    """What a family tells of its parts and LoRAs (`pipelines.catalogue.Catalogue`)."""

    def has(self, part: Part) -> bool: ...

    def lora(self, source: str) -> Path | None: ...


def _of_the_family_alone(source: str) -> str | None:
    return UNKNOWN_LORA


def faults(spec: Spec, family: Has, unknown: Callable[[str], str | None] = _of_the_family_alone) -> list[InputFault]:
    """One `feature_not_supported` for each field of the client's that needs what the family lacks, and what is wrong
    with the tokens of its embeddings.

    unknown: why a LoRA that the family does not know can be found nowhere else either; None where it may be. One that
    is well known is the family's to have in any case. The messages name the part and the command that brings it, and
    nothing of the server's but the family's name.
    """
    absent = [lora for lora in _asked_loras(spec) if family.lora(lora.source) is None]
    found = [fault for lora in absent if (fault := _lora_fault(lora, family, unknown)) is not None]
    found += token_faults(spec.embeddings)
    return found + [lacks(part, field, family) for part, field in needed_parts(spec) if not family.has(part)]


def needed_parts(spec: Spec) -> list[tuple[Part, str]]:
    """The parts that `spec` is drawn with, each with the client's field that asks for it."""
    found: list[tuple[Part, str]] = []
    for picture in spec.pictures:
        match picture:
            case Structure() if picture.acts:
                found.append((CONTROLS[picture.kind], picture.field))
            case Reference() if picture.acts:
                found += [(part, picture.field) for part in (ADAPTERS[picture.kind], *SEEING)]
            case Upscale():
                found.append(("upscaler", picture.field))
    if spec.canvas is not None and (patch := PATCHES[spec.canvas.engine]) is not None:
        asked = spec.canvas.engine_field or spec.canvas.field
        found += [("inpaint_head", asked), (patch, asked)]
    if spec.refiner is not None and spec.steps:
        found.append(("refiner", spec.refiner.field))
    if spec.check_safety:
        version = spec.safety_checker_version
        asked = "enable_safety_checker" if version == "v1" else "safety_checker_version"
        found.append((CHECKERS[version], asked))
    return found


def loras_of(spec: Spec) -> list[Lora]:
    """The LoRAs that a spec is drawn with: its own, those that its prompt names, and its performance mode's.

    One that the prompt names again is left out, as is what is beyond MAX_LORAS: where the file is the mode's, or the
    same file with the same weight is there already. Raises InputFault for a tag whose weight is out of range.
    """
    own: list[Lora] = []
    modes: list[Lora] = []
    for lora in spec.loras:
        (modes if lora.performance else own).append(lora)
    _, tags = take_lora_tags(prompt_lines(spec.prompt)[0])
    known = {(_stem(lora.source), lora.scale) for lora in own}
    of_modes = {_stem(lora.source) for lora in modes}
    for tag in tags:
        name = _stem(tag.name)
        if len(own) < MAX_LORAS and name not in of_modes and (name, tag.weight) not in known:
            known.add((name, tag.weight))
            own.append(Lora(source=tag.name, scale=tag.weight, field=TAG_FIELD))
    return [*own, *modes]


def unknown_lora(lora: Lora, why: str = UNKNOWN_LORA) -> InputFault:
    """That no file answers to it. why: a sentence."""
    named = f"The prompt names the LoRA {lora.source[:64]!r}. {why}" if lora.field == TAG_FIELD else why
    return InputFault("feature_not_supported", named, lora.field)


def _asked_loras(spec: Spec) -> Sequence[Lora]:
    try:
        return loras_of(spec)
    except InputFault:  # of the prompt: told by whoever reads it
        return spec.loras


def _stem(source: str) -> str:
    """The name of a file, or of an address of one, without folders and suffix."""
    return PurePosixPath(source.partition("?")[0]).name.removesuffix(".safetensors")


def well_known(source: str) -> str | None:
    """The name under which a LoRA is pulled, by its name or its address on the usual hub; None for others."""
    try:
        place = urlsplit(source)
    except ValueError:  # half an address
        return None
    if place.netloc.lower() not in _HUBS:
        return None
    return LORAS.get(_stem(place.path))


def _lora_fault(lora: Lora, family: Has, unknown: Callable[[str], str | None]) -> InputFault | None:
    known = well_known(lora.source)
    if known is not None:
        return lacks(known, lora.field, family)
    why = unknown(lora.source)
    return None if why is None else unknown_lora(lora, why)
