"""What a spec needs of a family beside its checkpoint, and what is told where the family lacks it. Free of torch."""

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Protocol
from urllib.parse import urlsplit

from pipelines.errors import InputFault
from pipelines.parts import Part
from pipelines.prompts.embeddings import token_faults
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

_HUBS = ("", "huggingface.co")  # where a well-known name means the well-known file; none is a bare name


class Has(Protocol):
    """What a family tells of its parts and LoRAs (`pipelines.catalogue.Catalogue`)."""

    @property
    def name(self) -> str: ...

    def has(self, part: Part) -> bool: ...

    def lora(self, source: str) -> Path | None: ...

    def remedy(self, part: str) -> str: ...


def _of_the_family_alone(source: str) -> str | None:
    return UNKNOWN_LORA


def faults(spec: Spec, family: Has, unknown: Callable[[str], str | None] = _of_the_family_alone) -> list[InputFault]:
    """One `feature_not_supported` for each field of the client's that needs what the family lacks, and what is wrong
    with the tokens of its embeddings.

    unknown: why a LoRA that the family does not know can be found nowhere else either; None where it may be. One that
    is well known is the family's to have in any case. The messages name the part and the command that brings it, and
    nothing of the server's but the family's name.
    """
    absent = [lora for lora in spec.loras if family.lora(lora.source) is None]
    found = [fault for lora in absent if (fault := _lora_fault(lora, family, unknown)) is not None]
    found += token_faults(spec.embeddings)
    return found + [_lacks(part, field, family) for part, field in needed_parts(spec) if not family.has(part)]


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
    if spec.check_safety:
        version = spec.safety_checker_version
        asked = "enable_safety_checker" if version == "v1" else "safety_checker_version"
        found.append((CHECKERS[version], asked))
    return found


def well_known(source: str) -> str | None:
    """The name under which a LoRA is pulled, by its name or its address on the usual hub; None for others."""
    try:
        place = urlsplit(source)
    except ValueError:  # half an address
        return None
    if place.netloc.lower() not in _HUBS:
        return None
    return LORAS.get(PurePosixPath(place.path).name.removesuffix(".safetensors"))


def _lora_fault(lora: Lora, family: Has, unknown: Callable[[str], str | None]) -> InputFault | None:
    known = well_known(lora.source)
    if known is not None:
        return _lacks(known, lora.field, family)
    why = unknown(lora.source)
    return None if why is None else InputFault("feature_not_supported", why, lora.field)


def _lacks(part: str, field: str, family: Has) -> InputFault:
    msg = f"The model family {family.name} lacks {part}, which this needs: {family.remedy(part)}."
    return InputFault("feature_not_supported", msg, field)
