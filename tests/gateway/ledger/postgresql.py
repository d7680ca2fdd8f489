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

import psutil
import psycopg
import pytest

USERS = ("postgres", "nobody")  # whom the server runs as where the tests run as root, which it refuses
# A test's server need not survive a power cut.
SETTINGS = "-c fsync=off -c full_page_writes=off -c max_connections=50"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Server:
    """A server in `home`, of the programs in `folder`. Everybody else on this machine lacks the password. address: one
    of this machine, where it listens."""

    folder: Path
    home: Path
    port: int
    password: str
    address: str = LOOPBACK

    def start(self) -> None:
        options = f"-p {self.port} -k {self.home} -c listen_addresses={self.address} {SETTINGS}"
        self._control("start", "-l", self.home / "log", "-o", options)

    def stop(self) -> None:
        """End it as a crash would: its clients' connections break."""
        self._control("stop", "--mode=immediate")

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Let it hang meanwhile: what listens still takes connections, and nothing answers."""
        postmaster = psutil.Process(int((self.home / "data" / "postmaster.pid").read_text().split()[0]))
        all_of_it = [postmaster]
        postmaster.suspend()
        all_of_it += postmaster.children(recursive=True)
        try:
            for process in all_of_it[1:]:
                process.suspend()
            yield
        finally:
            for process in reversed(all_of_it):
                process.resume()

    def _control(self, action: str, *arguments: object) -> None:
        _run(_user(), self.home, self.folder / "pg_ctl", action, "--wait", "-D", self.home / "data", *arguments)

    def url(self, database: str) -> str:
        return f"postgresql://tests:{self.password}@{self.address}:{self.port}/{database}"

    def create(self, database: str) -> str:
        """A new, empty database; returns its address."""
        self._execute(f"CREATE DATABASE {database}")
        return self.url(database)

    def drop(self, database: str) -> None:
        self._execute(f"DROP DATABASE {database} WITH (FORCE)")

    def end_connections(self, database: str) -> int:
        """Have the server end all connections to `database`; how many."""
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        with psycopg.connect(self.url("postgres")) as connection:
            return len(connection.execute(ended, [database]).fetchall())

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())


def _programs() -> Path | None:
    """The folder with initdb and pg_ctl; Debian keeps it off the PATH. None where there is no PostgreSQL."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name))
    return next((one for one in folders if (one / "initdb").exists() and (one / "pg_ctl").exists()), None)


@contextmanager
def serving(address: str = LOOPBACK) -> Iterator[Server]:
    """A running server. Skips the tests that need it where there is none to run. address: where it listens, for it and
    its neighbours (/24)."""
    folder = _programs()
    if folder is None:
        pytest.skip("no PostgreSQL server here: install Debian's package postgresql")
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
        with (data / "pg_hba.conf").open("a") as admitted:
            admitted.write(f"host all all {address}/24 scram-sha-256\n")
        server = Server(folder, home, _free_port(address), password, address)
        server.start()
        try:
            yield server
        finally:
            server.stop()
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


def _free_port(address: str) -> int:
    with socket.socket() as listening:
        listening.bind((address, 0))
        return int(listening.getsockname()[1])
