"""Machines of a test's own on this one: network namespaces on a bridge, which Linux lets its administrator make."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

TOOLS = ("ip", "unshare", "nsenter", "setpriv", "curl")  # of Debian's packages iproute2, util-linux and curl


@dataclass
class Network:
    """A bridge of this machine, which has the first address, and the namespaces whose links end at it."""

    bridge: str
    prefix: str
    joined: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Of this machine, for the others."""
        return f"{self.prefix}.1"

    def join(self) -> tuple[str, str]:
        """A new namespace with a link to all the others; its name and address."""
        number = len(self.joined) + 10
        name, address = f"{self.bridge}n{number}", f"{self.prefix}.{number}"
        _ip("netns", "add", name)
        self.joined.append(name)
        link = self._link(name)
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", link, "master", self.bridge, "up")
        _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "route", "add", "default", "via", self.address)
        return name, address

    def unplug(self, name: str) -> None:
        """Let nothing through to it or from it any more, not even that a connection has ended."""
        _ip("link", "set", self._link(name), "down")

    def plug(self, name: str) -> None:
        _ip("link", "set", self._link(name), "up")

    def _link(self, name: str) -> str:
        return name.replace("n", "v", 1)

    def close(self) -> None:
        for name in self.joined:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", self.bridge], check=False, capture_output=True)


@contextmanager
def laid() -> Iterator[Network]:
    """A network of no machines yet. Skips the tests that need it where none can be made."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"no {', '.join(missing)} here: install Debian's packages iproute2, util-linux and curl")
    if os.geteuid() != 0:
        pytest.skip(
            "only root may make network namespaces: run these tests as root, in a container or a machine of theirs"
        )
    network = Network(f"fs{secrets.token_hex(2)}", f"10.213.{secrets.randbelow(250) + 2}")
    try:
        try:
            _ip("link", "add", network.bridge, "type", "bridge")
        except RuntimeError as error:
            pytest.skip(f"no bridge can be made here ({error}): run these tests where CAP_NET_ADMIN is given")
        _ip("address", "add", f"{network.address}/24", "dev", network.bridge)
        _ip("link", "set", network.bridge, "up")
        yield network
    finally:
        network.close()


def _ip(*words: str) -> None:
    ended = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {ended.stderr.strip()}")
