"""A Redis of the tests' own, where the head of a cluster keeps what it knows: Debian's package, on a free port."""

import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

START_S = 20.0


@dataclass
class Redis:
    """A server that keeps what it has in `home`, every second. Everybody else lacks the password."""

    program: str
    home: Path
    address: str
    port: int
    password: str
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        settings = self.home / "redis.conf"
        settings.write_text(
            f"bind {self.address}\nport {self.port}\nrequirepass {self.password}\ndir {self.home}\nappendonly yes\n"
            f"logfile {self.home / 'log'}\n"
        )
        settings.chmod(0o600)
        self.process = subprocess.Popen([self.program, str(settings)], cwd=self.home)
        end = time.monotonic() + START_S
        while not self._answers():
            assert self.process.poll() is None, (self.home / "log").read_text()
            assert time.monotonic() < end, "Redis does not answer"
            time.sleep(0.1)

    def stop(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.address, self.port), timeout=2) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\nQUIT\r\n".encode())
                return b"PONG" in connection.makefile("rb").read()
        except OSError:
            return False


@contextmanager
def serving(address: str) -> Iterator[Redis]:
    """A running server. Skips the tests that need it where there is none to run."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no Redis server here: install Debian's package redis-server")
    home = Path(tempfile.mkdtemp(prefix="machines-redis-"))
    with socket.socket() as listening:
        listening.bind((address, 0))
        port = int(listening.getsockname()[1])
    redis = Redis(program, home, address, port, secrets.token_hex(16))
    try:
        redis.start()
        yield redis
    finally:
        redis.stop()
        shutil.rmtree(home, ignore_errors=True)
