"""The guard of the Python client tests: no call leaves this machine, whatever the client does with the error."""

import ipaddress
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class LeftTheMachine(AssertionError):
    """A call to something that is not loopback. Not an OSError, so that no client mistakes it for a bad network."""


class Guard:
    """Refuses and records name look-ups and connections that are not loopback, in every thread while it is on.

    Built on the interpreter's audit events, which are raised by the C code of sockets before anything is sent, so
    neither a saved reference to a function nor a subclass of socket gets round it. A hook cannot be removed; it is
    inert while the guard is off. ours: addresses of test servers besides.
    """

    def __init__(self, ours: ipaddress.IPv4Network | None = None) -> None:
        self._ours = ours
        self._lock = threading.Lock()
        self._on = False
        self._seen: list[str] = []
        sys.addaudithook(self._hook)

    @contextmanager
    def watching(self) -> Iterator[list[str]]:
        """The destinations refused so far; at the end there must be none."""
        with self.recording() as seen:
            yield seen
        if seen:
            raise LeftTheMachine(f"the client called {', '.join(seen)}")

    @contextmanager
    def recording(self) -> Iterator[list[str]]:
        """Refuse and record, without a verdict."""
        with self._lock:
            self._on, self._seen = True, []
            seen = self._seen
        try:
            yield seen
        finally:
            with self._lock:
                self._on = False

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._on or not event.startswith("socket."):
            return
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            address = args[1]
            host = address[0] if isinstance(address, tuple) else None  # a path of a unix socket, or none given
        elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
            host = args[0]
        else:
            return
        if isinstance(host, bytes):
            host = host.decode("idna")
        if not is_loopback(host) and not self._is_ours(host):
            with self._lock:
                self._seen.append(str(host))
            raise LeftTheMachine(f"a call to {host}")

    def _is_ours(self, host: object) -> bool:
        try:
            return self._ours is not None and ipaddress.ip_address(str(host)) in self._ours
        except ValueError:
            return False


def is_loopback(host: str | None) -> bool:
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
