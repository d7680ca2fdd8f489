"""A PostgreSQL server of the tests' own: Debian's package, an unprivileged user, a free port, a temporary folder."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

USERS = ("postgres", "nobody")  # whom the server runs as where the tests run as root, which it refuses
# A test's server need not survive a power cut.
SETTINGS = "-c listen_addresses=127.0.0.1 -c fsync=off -c full_page_writes=off -c max_connections=50"


@dataclass(frozen=True)
class Server:
    """Where the server listens. Everybody else on this machine lacks the password."""

    port: int
    password: str

    def url(self, database: str) -> str:
        return f"postgresql://tests:{self.password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """A new, empty database; returns its address."""
        self._execute(f"CREATE DATABASE {database}")
        return self.url(database)

    def drop(self, database: str) -> None:
        self._execute(f"DROP DATABASE {database} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())


def programs() -> Path | None:
    """The folder with initdb and pg_ctl; Debian keeps it off the PATH. None where there is no PostgreSQL."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name))
    return next((one for one in folders if (one / "initdb").exists() and (one / "pg_ctl").exists()), None)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A running server of the programs in `folder`."""
    user = _user()
    # not a folder of pytest's, which other users cannot enter; short, for it holds a socket
    home = Path(tempfile.mkdtemp(prefix="ledger-pg-"))
    data, secret = home / "data", home / "password"
    password = secrets.token_hex(16)
    try:
        secret.write_text(password)
        if user is not None:
            for path in (home, secret):
                os.chown(path, user.pw_uid, user.pw_gid)
        secret.chmod(0o400)
        _run(
            user,
            home,
            *(folder / "initdb", "--no-sync", "--auth=scram-sha-256", "--username=tests", f"--pwfile={secret}"),
            *("--encoding=UTF8", "--locale=C", "-D", data),
        )
        port = _free_port()
        options = f"-p {port} -k {home} {SETTINGS}"
        _run(user, home, folder / "pg_ctl", "start", "--wait", "-D", data, "-l", home / "log", "-o", options)
        try:
            yield Server(port, password)
        finally:
            _run(user, home, folder / "pg_ctl", "stop", "--wait", "--mode=immediate", "-D", data)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _user() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(known[name] for name in USERS if name in known)


def _run(user: pwd.struct_passwd | None, folder: Path, *command: object) -> None:
    rights = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    # The server keeps what it inherits, so its output must not be a pipe that is waited for.
    with (folder / "output").open("w+") as output:
        words = [str(word) for word in command]
        ended = subprocess.run(words, cwd=folder, stdout=output, stderr=output, timeout=60, **rights)  # type: ignore[call-overload]
        if ended.returncode:
            output.seek(0)
            raise RuntimeError(f"{words[0]} failed: {output.read()}")


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
