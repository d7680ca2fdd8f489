"""What stands in front of the nodes: passes connections on to those whose proxy says that it is well, in turn."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

PORT = 8000  # of the proxies
EVERY_S = 0.5
PATIENCE_S = 2.0
_ASKED = b"GET /-/healthz HTTP/1.1\r\nhost: balancer\r\nconnection: close\r\n\r\n"


class Balancer:
    """On loopback. well: the nodes that take connections now; given: how many connections each has had."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._turn = count()
        self._watching: list[asyncio.Task[None]] = []
        self.well: list[str] = []
        self.given: Counter[str] = Counter()
        self.port = 0

    def watch(self, node: str) -> None:
        """Pass connections on to a node of this address, too, while it is well."""
        self._loop.call_soon_threadsafe(lambda: self._watching.append(self._loop.create_task(self._watch(node))))

    async def serve(self, started: threading.Event, ended: asyncio.Event) -> None:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])
        started.set()
        await ended.wait()
        server.close()
        for task in self._watching:
            task.cancel()

    async def _watch(self, node: str) -> None:
        while True:
            well = await _is_well(node)
            if well != (node in self.well):
                (self.well.append if well else self.well.remove)(node)
            await asyncio.sleep(EVERY_S)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(len(self.well)):
            if not self.well:
                break
            node = self.well[next(self._turn) % len(self.well)]
            try:
                async with asyncio.timeout(PATIENCE_S):
                    theirs, ours = await asyncio.open_connection(node, PORT)
            except (OSError, TimeoutError):
                continue
            self.given[node] += 1
            await asyncio.wait(
                [asyncio.create_task(_pump(reader, ours)), asyncio.create_task(_pump(theirs, writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )
            _end(ours)
            break
        _end(writer)


async def _is_well(node: str) -> bool:
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(node, PORT)
            writer.write(_ASKED)
            answer = await reader.readline()
            _end(writer)
            return b" 200 " in answer
    except (OSError, TimeoutError):
        return False


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while content := await reader.read(2**16):
            writer.write(content)
            await writer.drain()


def _end(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, RuntimeError):
        writer.close()


@contextmanager
def balancing() -> Iterator[Balancer]:
    loop = asyncio.new_event_loop()
    balancer, started, ended = Balancer(loop), threading.Event(), asyncio.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(balancer.serve(started, ended))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait(10)
    try:
        yield balancer
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
