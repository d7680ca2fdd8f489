"""Verifying: every byte of a family against what was recorded when it came."""

from collections.abc import Iterator
from pathlib import Path

from models.families import read_family
from pipelines.weights.integrity import fault_of


def problems(folder: Path) -> Iterator[str]:
    """One line for each thing that is wrong with a family. Raises ToolFault when there is none."""
    family = read_family(folder)
    for path, record in family.files.items():
        wrong = fault_of(folder / path, record, all_bytes=True)
        if wrong is not None:
            yield f"{family.name}: {path} {wrong}"
    named = (family.checkpoint, *family.parts.values(), *(lora.file for lora in family.loras.values()))
    for path in dict.fromkeys(named):
        if path in family.files or any(recorded.startswith(f"{path}/") for recorded in family.files):
            continue
        what = "has no record to be held to" if (folder / path).exists() else "is missing"
        yield f"{family.name}: {path} {what}"
