"""The ledger that the settings name, or the options of a command."""

import argparse
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from gateway.errors import StoreUnavailable
from gateway.ledger.copying import CopyingFailed
from gateway.ledger.database import LedgerUnusable
from gateway.ledger.models import Limits
from gateway.ledger.store import SqlLedger
from gateway.ledger_address import parse, shown
from gateway.settings import GatewaySettings

POSITIONS_AGE_S = 0.5  # of the order by which clients are told their positions


async def open_ledger(settings: GatewaySettings) -> SqlLedger:
    """Open it, creating or migrating it where needed. Whoever opens it closes it."""
    limits = Limits(settings.max_waiting, settings.max_retries, settings.max_crashes)
    return await SqlLedger.open(
        settings.ledger_address, limits=limits, backups=settings.data_dir, positions_age_s=POSITIONS_AGE_S
    )


def add_place(parser: argparse.ArgumentParser) -> None:
    """The options that say which ledger is meant."""
    parser.add_argument("--data-dir", type=Path, default=Path("var"), help="the gateway's data_dir (default: var)")
    parser.add_argument("--ledger-url", help="the gateway's ledger_url, where it has one")


def settings_of(given: argparse.Namespace) -> GatewaySettings:
    """Ends the program (SystemExit) with a sentence for an address that is none of a ledger."""
    try:
        return GatewaySettings(data_dir=given.data_dir, ledger_url=given.ledger_url)
    except ValidationError as error:
        told = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise SystemExit(f"--ledger-url: {told}") from error


@contextmanager
def in_one_sentence(settings: GatewaySettings) -> Iterator[None]:
    """End the program (SystemExit) with a sentence where the ledger is away, unusable or not one."""
    try:
        yield
    except StoreUnavailable as error:
        where = shown(parse(settings.ledger_address))
        raise SystemExit(f"The ledger at {where} cannot be reached: {reason_of(error)}") from error
    except (LedgerUnusable, CopyingFailed, ValueError, OSError, sqlite3.Error) as error:
        raise SystemExit(str(error)) from error


def reason_of(error: StoreUnavailable) -> str:
    """What the driver says, on one line."""
    cause = error.__cause__
    lines = str(getattr(cause, "orig", None) or cause or error).strip().splitlines()
    return lines[0] if lines else str(error)
