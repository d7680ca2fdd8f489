"""Keeps Ray to this machine: every socket of its processes listens on loopback alone."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# Ray replaces 127.0.0.1 by the machine's own address, and listens on every address then, unless clusters are off. That
# switch was made for the firewalls of other systems, hence its name, but works on each. The workers that Ray starts
# ahead have not called the hook, so nothing would ever use them.
ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_prestart_worker_first_driver": "0"}
)
HOOK = f"{__name__}.listen_on_loopback"
_ANYWHERE = ("[::]:", "0.0.0.0:")


def listen_on_loopback() -> None:
    """Give loopback to each gRPC server of this process that asks for every address. Ray calls it in its workers.

    Serve has such a server in each replica, for calls by value, and no setting for its address.
    """
    from grpc.aio._server import Server

    listen = Server.add_insecure_port

    def listen_here(server: Any, address: str) -> Any:
        for anywhere in _ANYWHERE:
            if address.startswith(anywhere):
                address = f"127.0.0.1:{address.removeprefix(anywhere)}"
        return listen(server, address)

    Server.add_insecure_port = listen_here
