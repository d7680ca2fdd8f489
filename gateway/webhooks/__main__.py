"""`python -m gateway.webhooks list|rotate`: the keys that sign webhooks, where the service makes its own."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gateway.webhooks.signing import FILE, FileKeyRing


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m gateway.webhooks", description=__doc__)
    parser.add_argument("command", choices=("list", "rotate"))
    parser.add_argument("--data-dir", type=Path, default=Path("var"), help="the gateway's data_dir (default: var)")
    given = parser.parse_args(arguments)
    ring = FileKeyRing(given.data_dir / FILE)
    if given.command == "rotate":
        ring.rotate()
    table = Table("key", "made", "signs", title="Webhook keys", caption="A new key signs after 24 hours.")
    for kid, created, signs in ring.dated():
        table.add_row(kid, f"{created:%Y-%m-%d %H:%M} UTC", "yes" if signs else "")
    Console().print(table)


if __name__ == "__main__":
    main()
