"""The lock file: by name, the revision, size and sha256 that a team holds its pulls to."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, RootModel, ValidationError

from models.catalogue import ENTRIES
from models.errors import ToolFault
from models.families import read_family, write_whole

LOCK = Path("models.lock.json")


class Pin(BaseModel):
    """Which bytes a file of the catalogue has. revision: of its repository, where it came from a hub."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str | None = None
    size: int
    sha256: str


class Lock(RootModel[Mapping[str, Pin]]):
    """Pins by names of the catalogue."""


def read_lock(path: Path) -> Mapping[str, Pin]:
    """Raises ToolFault when the file cannot be read or is no lock."""
    try:
        return Lock.model_validate_json(path.read_bytes()).root
    except OSError as fault:
        raise ToolFault(f"The lock {path} cannot be read: {fault.strerror}.") from fault
    except ValidationError as fault:
        raise ToolFault(f"{path} is no lock of models: {fault.errors()[0]['msg']}.") from fault


def pins_of(folders: Iterable[Path]) -> dict[str, Pin]:
    """What the families in these folders have of the catalogue. Raises ToolFault when two have unlike files."""
    found: dict[str, Pin] = {}
    for folder in folders:
        for path, record in read_family(folder).files.items():
            entry = next((entry for entry in ENTRIES if entry.place == path), None)
            if entry is None:
                continue
            pin = Pin(
                revision=revision_of(record.origin),
                size=record.fetched_size or record.size,
                sha256=record.fetched_sha256 or record.sha256,
            )
            other = found.setdefault(entry.name, pin)
            if other.sha256 != pin.sha256:
                raise ToolFault(f"Two families have unlike files of {entry.name}: pin one family by its name.")
    return found


def write_lock(path: Path, pins: Mapping[str, Pin]) -> None:
    """Raises ToolFault when it cannot be written."""
    try:
        write_whole(path, Lock(dict(sorted(pins.items()))).model_dump_json(indent=2) + "\n")
    except OSError as fault:
        raise ToolFault(f"The lock {path} cannot be written: {fault.strerror}.") from fault


def revision_of(origin: str) -> str | None:
    """The revision in `repository@revision:path`; None of another origin."""
    repository, at, rest = origin.partition("@")
    return rest.partition(":")[0] if at and repository.count("/") == 1 and "://" not in origin else None
