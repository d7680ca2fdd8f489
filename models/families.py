"""The families that there are, and `family.json` written so that a reader finds the old one or the new one, whole."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from models.errors import ToolFault
from models.pull_presets import command_for
from pipelines.catalogue import FILE, FamilyFile, FileRecord, families_folder, first_error

ASIDE = ".pull"  # in a family's folder: what is not whole yet, or waits for the others


def families() -> Iterator[Path]:
    """The folders of all families that the folder of families has."""
    yield from sorted(path.parent for path in families_folder().glob(f"*/{FILE}"))


def read_family(folder: Path) -> FamilyFile:
    """Raises ToolFault when there is no family or it cannot be read."""
    try:
        return FamilyFile.model_validate_json((folder / FILE).read_bytes())
    except FileNotFoundError:
        brings = f"`{command}` brings it, and " if (command := command_for(folder)) else ""
        raise ToolFault(
            f"There is no family in {folder}: {brings}`python -m models list` names what there is."
        ) from None
    except OSError as fault:
        raise ToolFault(f"{folder / FILE} cannot be read: {fault.strerror}.") from fault
    except ValidationError as fault:
        raise ToolFault(f"{folder / FILE} is not a family's catalogue: {first_error(fault)}.") from fault


def write_family(folder: Path, file: FamilyFile) -> None:
    """Write `family.json` in one move. Everything that it names must be in place and whole before."""
    write_whole(folder / FILE, file.model_dump_json(indent=2, exclude_defaults=True) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a text file in one move, on the disk when it returns."""
    aside = path.with_name(f".{path.name}.new")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def require_space(folder: Path, need: int, done: str) -> None:
    """Raise ToolFault when the disk of a folder, which need not be there yet, has less than `need` bytes free.

    done: what is not done then, such as `fetched`.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if need > free:
        raise ToolFault(
            f"The disk of {folder} has {gigabytes(free)} free, and {gigabytes(need)} are needed: nothing is {done}."
        )


def gigabytes(size: int) -> str:
    """A size in words."""
    return f"{size / 1e9:.2f} GB"


def version_of(records: Mapping[str, FileRecord]) -> str:
    """What tells this family from another of its name: a digest of its files' digests, 16 hex digits."""
    lines = "".join(f"{path} {record.sha256}\n" for path, record in sorted(records.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def remove_family(folder: Path) -> None:
    """Remove what a family's `family.json` names, that file first, and the folder when nothing else is in it."""
    file = read_family(folder)
    named = [file.checkpoint, *file.parts.values(), *(lora.file for lora in file.loras.values()), *file.files]
    named += [config for config in (file.config, file.refiner_config) if config is not None]
    (folder / FILE).unlink()
    for path in named:
        delete(folder, path)
    delete(folder, ASIDE)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def delete(folder: Path, path: str) -> None:
    """Delete a file or folder of a family, and the folders round it that are empty then. Others' files are left."""
    target = folder / path
    if not target.resolve().is_relative_to(folder.resolve()) or target.resolve() == folder.resolve():
        raise ToolFault(f"The family in {folder} names a path outside its folder: {path}.")
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    for parent in target.parents:
        if parent == folder or not parent.is_dir() or any(parent.iterdir()):
            break
        parent.rmdir()
