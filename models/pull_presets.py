"""The presets of `pull`: what one word brings, and the command that brings a family (fooocus-facts 2.1)."""

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from types import MappingProxyType

from models.catalogue import Entry, find
from pipelines.catalogue import family_folder

_PERFORMANCE = ("lcm_lora", "lightning_lora")
_PARTS = (
    *("canny", "cpds", "image_prompt", "face_prompt", "image_prompt_negative", "vision"),
    *("inpaint_head", "inpaint_patch", "upscaler", "safety_checker"),
)

PRESETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "default": ("juggernaut", "offset_lora", *_PERFORMANCE, *_PARTS),
        "realistic": ("realistic_stock_photo", "film_lora", *_PERFORMANCE, *_PARTS),
        "anime": ("anima_pencil", *_PERFORMANCE, *_PARTS),
        "lcm": ("juggernaut", "lcm_lora"),
        "lightning": ("juggernaut", "lightning_lora"),
        "sai": ("sdxl_base", "refiner", "offset_lora", *_PERFORMANCE, *_PARTS),
    }
)
"""Names of the catalogue. Nothing that Fooocus marks non-commercial is among them; `lcm` and `lightning` are what one
performance mode needs and no more."""


def entries_of(names: tuple[str, ...]) -> tuple[Entry, ...]:
    """What names of presets and of single files stand for, each once. Raises ToolFault for an unknown one."""
    single = [each for name in names for each in PRESETS.get(name, (name,))]
    return tuple(dict.fromkeys(map(find, single)))


def command_for(folder: Path) -> str | None:
    """The command of an operator's shell that makes the family in `folder`; None unless it has a preset's name."""
    name = folder.name
    if name not in PRESETS:
        return None
    options = [] if folder.absolute() == family_folder(name).absolute() else ["--family", str(folder.absolute())]
    if any(entry.needs_trust for entry in entries_of((name,))):
        options.append("--accept-unpinned")
    return f"make pull MODEL={name}" + (f" ARGS={quote(' '.join(map(quote, options)))}" if options else "")
