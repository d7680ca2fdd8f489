"""Copies of the ledger's database: SQLite's online backup, and what pg_dump writes and pg_restore reads."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import URL

_CONNECT_S = "5"


class CopyingFailed(RuntimeError):
    """The database could not be copied or restored. Says why, in one sentence."""


def copy_name(url: URL, stem: str) -> str:
    """The name of a copy of the database at `url`: `stem` and what its kind of copies ends with."""
    return f"{stem}.db" if url.get_backend_name() == "sqlite" else f"{stem}.dump"


def copy_database(url: URL, copy: Path, tables: Sequence[str]) -> None:
    """Copy what is committed in the database at `url` to the file `copy`, in the place of what may be there.

    The copy is of one moment, while others write; it is whole and on the disk before it has its name. tables: of a
    PostgreSQL database, which others may share. Raises CopyingFailed, OSError and sqlite3.Error.
    """

    def write(aside: Path) -> None:
        if url.get_backend_name() == "sqlite":
            with closing(sqlite3.connect(url.database or "")) as source, closing(sqlite3.connect(aside)) as target:
                source.backup(target)
        else:
            chosen = [f"--table={table}" for table in tables]
            _run(url, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={aside}", *chosen)

    _place(copy, write)


def restore_database(copy: Path, url: URL) -> None:
    """Put a copy into the empty place `url`, all of it or nothing. Raises CopyingFailed and OSError."""
    if url.get_backend_name() == "sqlite":
        _place(Path(url.database or ""), lambda aside: shutil.copyfile(copy, aside))
    else:
        _run(url, "pg_restore", "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", str(copy))


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _place(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file that its owner alone can read, and then give it the name `path`."""
    aside = path.with_name(f".{path.name}.part")
    aside.unlink(missing_ok=True)
    os.close(os.open(aside, os.O_CREAT | os.O_EXCL, 0o600))
    try:
        write(aside)
        # before its name says that it is there
        sync(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    sync(path.parent)


def _run(url: URL, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's own programs on the database at `url`."""
    found = shutil.which(program)
    if found is None:
        raise CopyingFailed(
            f"The ledger is copied with PostgreSQL's program {program}, which is not here: install it "
            "(Debian's package postgresql-client), in a version that is not older than the server's."
        )
    # in the environment, for every user of the machine can read the words of a command
    secret = {} if url.password is None else {"PGPASSWORD": str(url.password)}
    address = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
    environment = {**os.environ, "PGCONNECT_TIMEOUT": _CONNECT_S, **secret}
    command = [found, "--no-password", f"--dbname={address.render_as_string(hide_password=False)}", *arguments]
    ended = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)  # noqa: S603 (our words)
    if ended.returncode:
        said = " ".join(ended.stderr.split()) or f"it ended with {ended.returncode}"
        raise CopyingFailed(f"{program} failed: {said}")
