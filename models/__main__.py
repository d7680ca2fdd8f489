"""The model tool: `python -m models` lists, pulls, imports, verifies, describes, pins and removes model families."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from models.errors import ToolFault
from models.families import (
    delete,
    families,
    read_family,
    remove_family,
    version_of,
    write_family,
)
from models.importing import add_import
from models.pull_presets import command_for
from pipelines.catalogue import families_folder, family_folder

if TYPE_CHECKING:
    from pipelines.memory.cards import Dtype

Subcommands = Any  # argparse's own type of it is private
DTYPES: Mapping[str, "Dtype"] = MappingProxyType({"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"})


def add_list(subcommands: Subcommands) -> None:
    """`list`: what there is to pull."""

    def run(arguments: argparse.Namespace) -> int:
        from models.showing import show_catalogue

        show_catalogue()
        return 0

    subcommands.add_parser("list", help="presets and files: size, licence, what needs them").set_defaults(run=run)


def add_pull(subcommands: Subcommands) -> None:
    """`pull`: bring presets and single files."""

    def run(arguments: argparse.Namespace) -> int:
        from models.lock import read_lock
        from models.pull_presets import PRESETS, entries_of
        from models.pulling import pull
        from models.sources import open_source

        entries = entries_of(tuple(arguments.names))
        presets = [name for name in arguments.names if name in PRESETS]
        if arguments.family is None and len(presets) != 1:
            raise ToolFault("Say with --family into which family to pull: only one preset makes one of its own name.")
        folder = family_folder(arguments.family or presets[0])
        lock = read_lock(arguments.lock) if arguments.lock else None
        made = pull(
            entries, folder, open_source(arguments.source), lock=lock, accept_unpinned=arguments.accept_unpinned
        )
        print(f"The family {made.name} in {folder} has all of {', '.join(arguments.names)}.")
        return 0

    parser = subcommands.add_parser("pull", help="bring a preset, or single files into a family")
    parser.add_argument("names", nargs="+", metavar="NAME", help="a preset or a name of `list`")
    parser.add_argument("--family", help="name or path of the family; a preset's own name by default")
    parser.add_argument(
        "--from", dest="source", default="hub", metavar="hub|FOLDER|s3://BUCKET/PREFIX", help="where the files lie"
    )
    parser.add_argument("--lock", type=Path, help="hold what comes to this lock file, which `pin` has written")
    parser.add_argument(
        "--accept-unpinned", action="store_true", help="take pickles of which no document states a hash"
    )
    parser.set_defaults(run=run)


def add_verify(subcommands: Subcommands) -> None:
    """`verify`: every byte against the record."""

    def run(arguments: argparse.Namespace) -> int:
        from models.verifying import problems

        whole = True
        for folder in _chosen(arguments.family):
            try:
                lines = list(problems(folder))
            except ToolFault as fault:
                if arguments.family is not None:
                    raise
                lines = [str(fault)]  # the others are verified nevertheless
            whole = whole and not lines
            for line in lines:
                print(line, file=sys.stderr)
            if not lines:
                print(f"{folder}: every file is as it came")
        return 0 if whole else 1

    parser = subcommands.add_parser("verify", help="hold every byte to what was recorded; all families without a name")
    parser.add_argument("family", nargs="?")
    parser.set_defaults(run=run)


def add_info(subcommands: Subcommands) -> None:
    """`info`: what a family has, and what it takes on a device."""

    def run(arguments: argparse.Namespace) -> int:
        from models.planning import show_cards, show_plan
        from models.showing import show_family

        if arguments.cards:
            show_cards(DTYPES[arguments.dtype])
            return 0
        code = 0
        for folder in _chosen(arguments.family):
            try:
                show_family(folder)
            except ToolFault as fault:
                if arguments.family is not None:
                    raise
                print(fault, file=sys.stderr)  # the others are described nevertheless
                code = 1
                continue
            show_plan(folder, DTYPES[arguments.dtype], arguments.memory_gb)
        return code

    parser = subcommands.add_parser(
        "info", help="what a family has and lacks, and what is planned for it on a GPU; all families without a name"
    )
    parser.add_argument("family", nargs="?")
    parser.add_argument(
        "--memory-gb",
        type=_positive,
        metavar="N",
        help="the whole plan for a device with that much; usual cards without",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="fp16", help="of the UNet (%(default)s)")
    parser.add_argument("--cards", action="store_true", help="usual cards with SDXL as published, in Markdown")
    parser.set_defaults(run=run)


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return number


def add_remove(subcommands: Subcommands) -> None:
    """`remove`: a family, or a part or LoRA of one."""

    def run(arguments: argparse.Namespace) -> int:
        if arguments.family is None:
            folder = family_folder(arguments.name)
            remove_family(folder)
            left = f", and what others put in {folder} is left" if folder.exists() else ""
            print(f"The family {folder.name} is removed{left}.")
        else:
            folder = family_folder(arguments.family)
            _remove_from(folder, arguments.name)
            print(f"The family {folder.name} has no {arguments.name} any more.")
        return 0

    parser = subcommands.add_parser("remove", help="remove a family, or with --family a part or LoRA of it")
    parser.add_argument("name", metavar="FAMILY|PART")
    parser.add_argument("--family", help="the family to remove it from")
    parser.set_defaults(run=run)


def _remove_from(folder: Path, name: str) -> None:
    """A part, or a LoRA by its own name or the catalogue's: `family.json` forgets it before it is deleted."""
    from models.catalogue import ENTRIES

    family = read_family(folder)
    names = {name, *(entry.file for entry in ENTRIES if entry.name == name)}
    parts = {part: path for part, path in family.parts.items() if part != name}
    loras = {known: lora for known, lora in family.loras.items() if known not in names}
    gone = [path for part, path in family.parts.items() if part == name]
    gone += [lora.file for known, lora in family.loras.items() if known in names]
    if not gone:
        raise ToolFault(f"The family {family.name} has no {name} that can be removed.")
    files = {
        path: record
        for path, record in family.files.items()
        if not any(path == each or path.startswith(f"{each}/") for each in gone)
    }
    update = {"parts": parts, "loras": loras, "files": files, "version": version_of(files)}
    write_family(folder, family.model_copy(update=update))
    for path in gone:
        delete(folder, path)


def add_pin(subcommands: Subcommands) -> None:
    """`pin`: the lock file."""

    def run(arguments: argparse.Namespace) -> int:
        from models.lock import pins_of, write_lock

        pins = pins_of(_chosen(arguments.family))
        write_lock(arguments.lock, pins)
        print(f"{arguments.lock} holds {len(pins)} files; `pull --lock {arguments.lock}` takes no others.")
        return 0

    from models.lock import LOCK

    parser = subcommands.add_parser("pin", help="write a lock file of what is here, for a team to commit")
    parser.add_argument("family", nargs="?")
    parser.add_argument("--lock", type=Path, default=LOCK)
    parser.set_defaults(run=run)


SUBCOMMANDS: tuple[Callable[[Subcommands], None], ...] = (
    add_list,
    add_pull,
    add_import,
    add_verify,
    add_info,
    add_remove,
    add_pin,
)


def _chosen(name: str | None) -> list[Path]:
    if name is not None:
        return [family_folder(name)]
    found = list(families())
    if not found:
        raise ToolFault(
            f"There is no family in {families_folder()}: `{command_for(family_folder('default'))}` brings one, and "
            "`python -m models list` names what else can be pulled."
        )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and say how it ended: 0, or 1 with a line on stderr; argparse's own 2 for what it cannot read."""
    parser = argparse.ArgumentParser(prog="python -m models", description=__doc__)
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in SUBCOMMANDS:
        add(subcommands)
    parsed = parser.parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
    except ToolFault as fault:
        return _refused(str(fault))
    except OSError as fault:  # of a disk: what the commands expect to fail they tell themselves
        return _refused(f"{fault.filename or 'A file'}: {fault.strerror or fault}.")
    except KeyboardInterrupt:
        print("error: stopped; the same command goes on where this one was.", file=sys.stderr, flush=True)
        os._exit(130)  # threads may wait for a server for a minute, and all that they have is on the disk
    return code


def _refused(why: str) -> int:
    print(f"error: {' '.join(why.split())}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
