"""`python -m gateway.keys create|list|rotate|revoke`: who may call the service."""

import argparse
import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gateway.keys.base import Issued, Key, Scope
from gateway.keys.limits import KeyLimits
from gateway.keys.sql import SqlKeys
from gateway.settings import GatewaySettings

_UNITS = {"h": 1, "d": 24, "y": 24 * 365}.get


def main(arguments: list[str] | None = None) -> int:
    """0; 1 where there is no such key."""
    given = _parser().parse_args(arguments)
    return asyncio.run(_run(given, Console()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gateway.keys", description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("var"), help="the gateway's data_dir (default: var)")
    parser.add_argument("--ledger-url", help="the gateway's ledger_url, where it has one")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a key and show it, once")
    create.add_argument("name")
    create.add_argument("--scope", action="append", type=Scope, choices=list(Scope), help="default: run and storage")
    create.add_argument("--expires-in", type=_duration, help="as 12h, 30d or 1y; default: never")
    create.add_argument("--concurrency", type=_count, help="requests that run at once")
    create.add_argument("--queue-length", type=_count, help="requests that wait")
    create.add_argument("--pixel-steps", type=_count, help="a day: width x height x steps, over all pictures")
    commands.add_parser("list", help="show all keys")
    rotate = commands.add_parser("rotate", help="give a key a new secret and show it, once")
    rotate.add_argument("id")
    rotate.add_argument("--overlap", type=_duration, default=timedelta(days=1), help="of the last one (default: 1d)")
    revoke = commands.add_parser("revoke", help="refuse a key from now on")
    revoke.add_argument("id")
    return parser


async def _run(given: argparse.Namespace, console: Console) -> int:
    settings = GatewaySettings(data_dir=given.data_dir, ledger_url=given.ledger_url)
    keys = await SqlKeys.open(settings.ledger_address)
    try:
        match given.command:
            case "create":
                limits = KeyLimits(given.concurrency, given.queue_length, given.pixel_steps)
                expires_at = None if given.expires_in is None else datetime.now(UTC) + given.expires_in
                scopes = given.scope or [Scope.RUN, Scope.STORAGE]
                _show(await keys.create(given.name, scopes, limits, expires_at), console)
            case "rotate":
                issued = await keys.rotate(given.id, given.overlap)
                if issued is None:
                    return _unknown(console)
                _show(issued, console)
            case "revoke":
                if not await keys.revoke(given.id):
                    return _unknown(console)
                console.print("Revoked.")
            case "list":
                console.print(_table([(key, *await keys.used(key.id)) for key in await keys.all()]))
    finally:
        await keys.close()
    return 0


def _show(issued: Issued, console: Console) -> None:
    console.print(f"Key [bold]{issued.key.id}[/] ({', '.join(sorted(issued.key.scopes))}), shown this once:")
    # unwrapped and unstyled, to be copied or piped
    console.print(f"FAL_KEY={issued.credentials}", soft_wrap=True, markup=False, highlight=False)


def _unknown(console: Console) -> int:
    console.print("[red]There is no such key that counts.[/]")
    return 1


def _table(rows: list[tuple[Key, int, int]]) -> Table:
    table = Table("id", "name", "scopes", "state", "at once", "waiting", "pixel-steps a day", "today", title="API keys")
    now = datetime.now(UTC)
    for key, requests, pixel_steps in rows:
        limits = (key.limits.concurrency, key.limits.queue_length, key.limits.pixel_steps)
        shown = ["" if limit is None else str(limit) for limit in limits]
        today = f"{requests} requests, {pixel_steps} pixel-steps" if requests else ""
        table.add_row(key.id, key.name, " ".join(sorted(key.scopes)), _state(key, now), *shown, today)
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
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError("a whole number")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
