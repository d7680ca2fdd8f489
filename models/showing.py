"""Tables of what there is to pull and of what a family has."""

import os
import sys
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table

from models.catalogue import ENTRIES, Entry
from models.errors import ToolFault
from models.families import ASIDE, families, read_family
from models.pull_presets import PRESETS
from pipelines.parts import Part

WIDE = 260  # columns where no terminal says


def wide_console() -> Console:
    """As wide as the terminal, and as tables need it where there is none."""
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE)


def show_catalogue() -> None:
    """Print presets and single files: size, licence, what needs them, and which families have them."""
    having: dict[str, frozenset[str]] = {}
    for folder in families():
        try:
            having[folder.name] = frozenset(read_family(folder).files)
        except ToolFault as fault:
            print(fault, file=sys.stderr)  # the others are listed nevertheless
    presets = Table("preset", "is", "here", title="Presets", title_justify="left")
    for name, names in PRESETS.items():
        presets.add_row(name, ", ".join(names), "yes" if name in having else "")
    files = Table(title="Files", title_justify="left")
    for column in ("name", "file", "size", "licence", "needed for", "from", "hash", "here in"):
        files.add_column(column, overflow="fold")
    for entry in ENTRIES:
        here = ", ".join(name for name, places in having.items() if entry.place in places and entry.use)
        files.add_row(
            entry.name,
            entry.file,
            size_of(entry),
            licence_of(entry),
            needed_for(entry),
            _from(entry),
            _hash(entry),
            here,
        )
    console = wide_console()
    console.print(presets)
    console.print(files)


def size_of(entry: Entry) -> str:
    """As the document states it."""
    return f"{entry.size:,} B" if entry.size is not None else entry.about or "not stated"


def licence_of(entry: Entry) -> str:
    licence = entry.licence or "not stated"
    return f"{licence}: no commercial use" if entry.non_commercial else licence


def needed_for(entry: Entry) -> str:
    return entry.needed_for if entry.use else f"{entry.needed_for} (not used here)"


def _from(entry: Entry) -> str:
    return entry.repository or entry.elsewhere


def _hash(entry: Entry) -> str:
    state = "pinned" if entry.pinned else "unpinned"
    return f"{state} pickle" if entry.format == "pickle" else state


def show_family(folder: Path) -> None:
    """Print what a family has, where it came from, and what it lacks. Raises ToolFault when it cannot be read."""
    console = wide_console()
    family = read_family(folder)
    table = Table("file", "size", "sha256", "from", title=f"{family.name} in {folder}", title_justify="left")
    for path, record in sorted(family.files.items()):
        table.add_row(path, f"{record.size:,} B", record.sha256[:16], record.origin)
    console.print(table)
    total = sum(record.size for record in family.files.values())
    console.print(f"checkpoint: {family.checkpoint}; LoRAs: {', '.join(family.loras) or 'none'}; {total:,} B in all")
    missing = [part for part in get_args(Part) if part not in family.parts]
    console.print(f"lacks: {', '.join(missing) or 'nothing'}")
    unfinished = sum(path.stat().st_size for path in (folder / ASIDE).glob("*"))
    if unfinished:
        console.print(f"unfinished pulls hold {unfinished:,} B in {folder / ASIDE}")
