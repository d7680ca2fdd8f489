"""A backup of what a service keeps, in one folder: the ledger's database, then the files and secrets in `data_dir`.

The ledger is copied first, at one moment. A file is in its place before the ledger names it, so all that this copy
names is there when the files are copied afterwards, but for what is over and was cleared up meanwhile. The other way
round, a request that ends between the two would have its row and lack its picture. What came after the moment of the
ledger is at worst a file that nothing names.
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from gateway.files.backends import FolderBlobs
from gateway.files.store import PROBE
from gateway.keys.tokens import FILE as TOKEN_SECRET
from gateway.ledger.copying import copy_database, copy_name, restore_database, sync
from gateway.ledger.database import TABLES, VERSION, check_file, tables_at
from gateway.ledger_address import parse, shown
from gateway.local_state import IDENTITY
from gateway.private_files import read_or_create, replace
from gateway.settings import GatewaySettings
from gateway.webhooks.signing import FILE as WEBHOOK_KEYS

# Parts become uploads, and the mark of what expires is there before the file: what moves meanwhile is met later.
AREAS = ("staging", "inputs", "uploads", "outputs", "expiring")
SECRETS = (TOKEN_SECRET, WEBHOOK_KEYS, IDENTITY)  # the last is none, and comes with them
_LABEL = "backup.json"  # written last: without it a backup was not finished


class BackupRefused(ValueError):
    """What was asked for would lose something or cannot be done. Says why, in one sentence."""


@dataclass(frozen=True, slots=True)
class Backup:
    """begun: the moment of which the ledger is, UTC. files: how many of the files store are with it."""

    begun: datetime
    files: int


def back_up(settings: GatewaySettings, folder: Path) -> Backup:
    """Copy what the service of `settings` keeps into `folder`, which is made, while the service runs.

    Files in a bucket are not copied. Raises BackupRefused, CopyingFailed, LedgerUnusable, StoreUnavailable, OSError
    and sqlite3.Error; nothing is left of a backup that failed.
    """
    url = parse(settings.ledger_address)
    data = settings.data_dir
    if not data.is_dir():
        raise BackupRefused(f"There is no folder {data}: give --data-dir as the settings of the service have it.")
    if folder.resolve().is_relative_to(data.resolve()):
        raise BackupRefused(f"The folder {folder} would be lost with {data}, in which it is: name a folder elsewhere.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BackupRefused(f"The folder {folder} is not empty: name a new folder for the backup.")
    if VERSION not in tables_at(url):
        raise BackupRefused(no_ledger(settings))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    try:
        return _copy_all(settings, url, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def restore(settings: GatewaySettings, folder: Path) -> Backup:
    """Put a backup where `settings` say, which must be empty of all that it holds. The service does not run meanwhile.

    Raises as `back_up` does; nothing is left of a restore that failed.
    """
    url, data = parse(settings.ledger_address), settings.data_dir
    label = _label(folder)
    copy = folder / copy_name(url, "ledger")
    if copy.name != label["ledger"]:
        raise BackupRefused(
            f"The backup {folder} holds {label['ledger']}, which is of another kind of database than this ledger's."
        )
    if kept := [*_rest_of(url), *(str(data / name) for name in (*AREAS, *SECRETS) if (data / name).exists())]:
        raise BackupRefused(f"A backup is restored into an empty place only, and there is {', '.join(kept)}.")
    if not copy.is_file():
        raise BackupRefused(f"The backup {folder} lacks its {copy.name}.")
    if url.get_backend_name() == "sqlite":
        check_file(copy)
        Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
    data.mkdir(parents=True, exist_ok=True)
    try:
        files = _copy_files(folder, data)
        # last, so that a service that is started too early finds none
        restore_database(copy, url)
    except BaseException:
        _remove(data, (*AREAS, *SECRETS))
        raise
    return Backup(datetime.fromisoformat(label["begun"]), files)


def no_ledger(settings: GatewaySettings) -> str:
    """The sentence for whoever named a place without a ledger."""
    where = shown(parse(settings.ledger_address))
    return f"There is no ledger at {where}: give --data-dir (or --ledger-url) as the settings of the service have it."


def _copy_all(settings: GatewaySettings, url: URL, folder: Path) -> Backup:
    begun = datetime.now(UTC)
    name = copy_name(url, "ledger")
    copy_database(url, folder / name, (VERSION, *TABLES))
    files = _copy_files(settings.data_dir, folder)
    label = {"ledger": name, "begun": begun.isoformat(timespec="seconds"), "files": files}
    replace(folder / _LABEL, json.dumps(label).encode())
    sync(folder)
    return Backup(begun, files)


def _rest_of(url: URL) -> list[str]:
    """What is where the database would be put: also a log of SQLite's, which would be taken for the new file's."""
    if url.get_backend_name() == "sqlite":
        return [name for end in ("", "-wal", "-shm", "-journal") if Path(name := f"{url.database}{end}").exists()]
    return [f"a ledger at {shown(url)}"] if tables_at(url) else []


def _copy_files(source: Path, target: Path) -> int:
    """Copy the files store and the secrets; returns how many files there were of the store."""
    reading, writing = FolderBlobs(source), FolderBlobs(target)
    number = 0
    for area in AREAS:
        for path in reading.list(f"{area}/"):
            blob = None if path == PROBE else reading.stat(path)
            try:
                file = None if blob is None else (source / path).open("rb")
            except FileNotFoundError:  # it was cleared up meanwhile
                continue
            if blob is not None and file is not None:
                with file:
                    writing.write(path, file, blob.notes)
                number += area != "expiring"
    for name in SECRETS:
        if (source / name).exists():
            read_or_create(target / name, (source / name).read_bytes)
    return number


def _label(folder: Path) -> dict[str, Any]:
    try:
        label = json.loads((folder / _LABEL).read_bytes())
        datetime.fromisoformat(label["begun"])
        return {"ledger": str(label["ledger"]), "begun": label["begun"]}
    except (FileNotFoundError, NotADirectoryError):
        raise BackupRefused(
            f"The folder {folder} is no backup, or one that was not finished: it has no {_LABEL}."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise BackupRefused(f"The folder {folder} is no backup: its {_LABEL} cannot be read.") from None


def _remove(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        found = folder / name
        if found.is_dir():
            shutil.rmtree(found, ignore_errors=True)
        else:
            found.unlink(missing_ok=True)
