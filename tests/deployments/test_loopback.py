"""A process that has called the hook has no gRPC server on every address."""

import grpc
import psutil
import pytest
from grpc.aio._server import Server

from deployments.loopback import listen_on_loopback


@pytest.mark.parametrize("anywhere", ["[::]", "0.0.0.0"])
async def test_a_server_that_asks_for_every_address_gets_loopback(
    anywhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "add_insecure_port", Server.add_insecure_port)  # and back again
    listen_on_loopback()
    server = grpc.aio.server()
    port = server.add_insecure_port(f"{anywhere}:0")
    await server.start()
    try:
        addresses = {one.laddr.ip for one in psutil.Process().net_connections("tcp") if one.laddr.port == port}
        assert {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}
    finally:
        await server.stop(None)
