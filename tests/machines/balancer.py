"""What stands in front of the nodes: passes connections on to those whose proxy says that it is well, in turn, and ends
those of a node that says nothing any more, as the balancers of clouds do.

A process of its own (`python -m tests.machines.balancer`): it prints its port on loopback, and is told of each node by
a line.
"""

import asyncio
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from time import monotonic

from tests.cluster import ROOT

PORT = 8000  # of the proxies
EVERY_S = 0.5
PATIENCE_S = 2.0
LOST_S = 10.0  # a node that has said nothing for so long is gone: whoever waits for it is told
_ASKED = b"GET /-/healthz HTTP/1.1\r\nhost: balancer\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True)
class Balancer:
    """port: on loopback."""

    port: int
    process: "subprocess.Popen[bytes]"

    def watch(self, node: str) -> None:
        """Pass connections on to a node of this address, too, while it is well."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{node}\n".encode())
        self.process.stdin.flush()


@contextmanager
def balancing() -> Iterator[Balancer]:
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.machines.balancer"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield Balancer(int(process.stdout.readline()), process)
        finally:
            process.kill()


class _Passing:
    def __init__(self) -> None:
        self._turn = count()
        self._well: list[str] = []
        self._open: defaultdict[str, set[asyncio.StreamWriter]] = defaultdict(set)

    async def watch(self, node: str) -> None:
        heard = monotonic()
        while True:
            answer = await _answer_of(node)
            well = b" 200 " in answer
            if well != (node in self._well):
                (self._well.append if well else self._well.remove)(node)
            if answer:
                heard = monotonic()
            elif monotonic() - heard > LOST_S:
                for writer in [*self._open[node]]:
                    writer.transport.abort()  # closed, it would wait for what cannot be sent
            await asyncio.sleep(EVERY_S)

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """To the first that takes it; where none does, the caller's connection ends."""
        for _ in [*self._well]:
            if not self._well:
                break
            node = self._well[next(self._turn) % len(self._well)]
            try:
                async with asyncio.timeout(PATIENCE_S):
                    theirs, ours = await asyncio.open_connection(node, PORT)
            except (OSError, TimeoutError):
                continue
            self._open[node].add(ours)
            pumps = [asyncio.create_task(_pump(reader, ours)), asyncio.create_task(_pump(theirs, writer))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            self._open[node].discard(ours)
            _end(ours)
            break
        _end(writer)


async def _answer_of(node: str) -> bytes:
    """The first line of what its proxy says of itself; nothing where it says nothing."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(node, PORT)
            writer.write(_ASKED)
            answer = await reader.readline()
            _end(writer)
            return answer
    except (OSError, TimeoutError):
        return b""


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while content := await reader.read(2**16):
            writer.write(content)
            await writer.drain()


def _end(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, RuntimeError):
        writer.close()


async def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it ends it
    passing = _Passing()
    server = await asyncio.start_server(passing.pass_on, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    watching = []
    while line := await lines.readline():
        watching.append(asyncio.create_task(passing.watch(line.decode().strip())))


if __name__ == "__main__":
    asyncio.run(_main())
