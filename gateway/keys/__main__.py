"""`python -m gateway.keys create|list|rotate|revoke`: who may call the service."""

import argparse
import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from gateway.backup import no_ledger
from gateway.keys.base import Issued, Key, KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from gateway.ledger.database import VERSION, tables_at
from gateway.ledger.opening import add_place, in_one_sentence, settings_of
from gateway.ledger_address import parse
from gateway.settings import GatewaySettings
from gateway.validation import whole_number

_WIDEST = 10_000  # columns of a table
_UNITS = {"h": 1, "d": 24, "y": 24 * 365}.get


def main(arguments: list[str] | None = None) -> int:
    """0; 1 where there is no such key. Ends the program with a sentence (SystemExit) where there is no ledger."""
    given = _parser().parse_args(arguments)
    settings = settings_of(given)
    with in_one_sentence(settings):
        if not getattr(given, "new", False) and VERSION not in tables_at(parse(settings.ledger_address)):
            raise SystemExit(no_ledger(settings))
        return asyncio.run(_run(given, settings, Console()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gateway.keys", description=__doc__)
    add_place(parser)
    told = argparse.ArgumentParser(add_help=False)
    told.add_argument("--json", action="store_true", help="for programs: JSON on one line")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", parents=[told], help="make a key and show it, once")
    create.add_argument("name")
    create.add_argument("--scope", action="append", type=Scope, choices=list(Scope), help="default: run and storage")
    create.add_argument("--expires-in", type=_duration, help="as 12h, 30d or 1y; default: never")
    create.add_argument("--concurrency", type=_count, help="requests that run at once")
    create.add_argument("--queue-length", type=_count, help="requests that wait")
    create.add_argument("--pixel-steps", type=_count, help="a day: width x height x steps, over all pictures")
    create.add_argument("--new", action="store_true", help="make the ledger where the service has not started yet")
    commands.add_parser("list", parents=[told], help="show all keys")
    rotate = commands.add_parser("rotate", parents=[told], help="give a key a new secret and show it, once")
    rotate.add_argument("id")
    rotate.add_argument("--overlap", type=_duration, default=timedelta(days=1), help="of the last one (default: 1d)")
    revoke = commands.add_parser("revoke", help="refuse a key from now on")
    revoke.add_argument("id")
    return parser


async def _run(given: argparse.Namespace, settings: GatewaySettings, console: Console) -> int:
    keys = await SqlKeys.open(settings.ledger_address, settings.data_dir)
    try:
        match given.command:
            case "create":
                limits = KeyLimits(given.concurrency, given.queue_length, given.pixel_steps)
                expires_at = None if given.expires_in is None else datetime.now(UTC) + given.expires_in
                scopes = given.scope or [Scope.RUN, Scope.STORAGE]
                _show(await keys.create(given.name, scopes, limits, expires_at), given.json, console)
            case "rotate":
                issued = await keys.rotate(given.id, given.overlap)
                if issued is None:
                    return _unknown(console)
                _show(issued, given.json, console)
            case "revoke":
                if not await keys.revoke(given.id):
                    return _unknown(console)
                console.print("Revoked.")
            case "list":
                _list([(key, *await keys.used(key.id)) for key in await keys.all()], given.json, console)
    finally:
        await keys.close()
    return 0


def _show(issued: Issued, as_json: bool, console: Console) -> None:
    if as_json:
        print(json.dumps(_entry(issued.key) | {"credentials": issued.credentials}))
        return
    scopes = ", ".join(sorted(issued.key.scopes))
    console.print(f"Key [bold]{issued.key.id}[/] ({scopes}), shown this once:", soft_wrap=True)
    # unwrapped and unstyled, to be copied or piped
    console.print(f"FAL_KEY={issued.credentials}", soft_wrap=True, markup=False, highlight=False)


def _list(rows: list[tuple[Key, int, int]], as_json: bool, console: Console) -> None:
    if as_json:
        entries = [_entry(key) | {"requests_today": one, "pixel_steps_today": two} for key, one, two in rows]
        print(json.dumps(entries))
        return
    table = _table(rows)
    # wider than a narrow terminal rather than with words cut off
    least = Measurement.get(console, console.options.update(width=_WIDEST), table).minimum
    console.width = max(console.width, least)
    console.print(table, soft_wrap=True)


def _entry(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "state": _state(key, datetime.now(UTC)),
        "concurrency": key.limits.concurrency,
        "queue_length": key.limits.queue_length,
        "pixel_steps": key.limits.pixel_steps,
        "created_at": key.created_at.isoformat(),
        "expires_at": None if key.expires_at is None else key.expires_at.isoformat(),
        "revoked_at": None if key.revoked_at is None else key.revoked_at.isoformat(),
    }


def _unknown(console: Console) -> int:
    console.print("[red]There is no such key that counts.[/]")
    return 1


def _table(rows: list[tuple[Key, int, int]]) -> Table:
    table = Table(title="API keys")
    table.add_column("id", no_wrap=True)
    for header in ("name", "scopes", "state", "at once", "waiting", "pixel-steps a day", "today"):
        table.add_column(header, overflow="fold")
    now = datetime.now(UTC)
    for key, requests, pixel_steps in rows:
        limits = (key.limits.concurrency, key.limits.queue_length, key.limits.pixel_steps)
        shown = ["" if limit is None else str(limit) for limit in limits]
        today = f"{requests} requests, {pixel_steps} pixel-steps" if requests else ""
        table.add_row(key.id, escape(key.name), " ".join(sorted(key.scopes)), _state(key, now), *shown, today)
    return table


def _state(key: Key, now: datetime) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d}"
    if key.expires_at is not None:
        return f"{'until' if now < key.expires_at else 'expired'} {key.expires_at:%Y-%m-%d %H:%M}"
    return "counts"


def _duration(text: str) -> timedelta:
    parts = re.fullmatch(r"(\d{1,4})([hdy])", text)
    if parts is None:
        raise argparse.ArgumentTypeError("a number and h, d or y")
    return timedelta(hours=int(parts[1]) * (_UNITS(parts[2]) or 0))


def _count(text: str) -> int:
    if (count := whole_number(text, most=2**63 - 1)) is None:
        raise argparse.ArgumentTypeError("a whole number")
    return count


if __name__ == "__main__":
    raise SystemExit(main())
