"""`python -m gateway.ledger backup|restore`: what the service keeps, into one folder and back."""

import argparse
from pathlib import Path

from gateway.backup import back_up, restore
from gateway.ledger.opening import add_place, in_one_sentence, settings_of


def main(arguments: list[str] | None = None) -> None:
    """Ends the program with a sentence (SystemExit) where it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m gateway.ledger", description=__doc__)
    add_place(parser)
    commands = parser.add_subparsers(dest="command", required=True)
    backup = commands.add_parser("backup", help="copy ledger, files and secrets into a new folder; the service may run")
    backup.add_argument("folder", type=Path)
    again = commands.add_parser("restore", help="put a backup into a place that is empty, before the service starts")
    again.add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    settings = settings_of(given)
    with in_one_sentence(settings):
        if given.command == "backup":
            made = back_up(settings, given.folder)
            print(
                f"Backed up into {given.folder}: the ledger as it was at {made.begun:%F %T} UTC, {_files(made.files)}."
            )
        else:
            made = restore(settings, given.folder)
            print(f"Restored {given.folder}: the ledger as it was at {made.begun:%F %T} UTC, {_files(made.files)}.")


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


if __name__ == "__main__":
    main()
