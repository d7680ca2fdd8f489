"""The sockets that the processes of a service listen on, and what they say to somebody who has no token."""

import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

import grpc
import psutil

PATHS = ("/", "/metrics", "/api/jobs/", "/api/v0/logs", "/get_runtime_envs_info")
# one method of each of Ray's services
METHODS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "/ray.rpc.ReporterService/ReportOCMetrics",
    "/ray.serve.ASGIService/HandleRequest",
)
TIMEOUT_S = 10


@dataclass(frozen=True)
class Listening:
    """A listening socket. process: its command line, which Ray turns into a title."""

    process: str
    address: str
    port: int

    @property
    def is_loopback(self) -> bool:
        address = ip_address(self.address)
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return (mapped or address).is_loopback

    def answers(self) -> set[str]:
        """How it answers, asked on this machine without a token: codes of HTTP, or else of gRPC."""
        return set(self._http_codes() or self._grpc_codes())

    def says(self, path: str) -> str:
        """What it answers to a GET without a token."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def _http_codes(self) -> list[str]:
        codes = []
        for path in PATHS:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
            try:
                connection.request("GET", path)
                codes.append(str(connection.getresponse().status))
            except http.client.BadStatusLine:  # it speaks HTTP/2 alone
                return []
            finally:
                connection.close()
        return codes

    def _grpc_codes(self) -> Iterator[str]:
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            for method in METHODS:
                try:
                    channel.unary_unary(method)(b"", timeout=TIMEOUT_S)
                    yield "OK"
                except grpc.RpcError as error:
                    yield error.code().name


def listening(process: int) -> list[Listening]:
    """The listening sockets of a process and all its descendants."""
    parent = psutil.Process(process)
    return [found for one in (parent, *parent.children(recursive=True)) for found in _listening(one)]


def _listening(process: psutil.Process) -> Iterator[Listening]:
    try:
        title = " ".join(process.cmdline()).strip()
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                yield Listening(title, connection.laddr.ip, connection.laddr.port)
    except psutil.NoSuchProcess:
        return  # it has just ended
