"""An outbox in memory and receivers on loopback."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from gateway.ledger.models import Answer
from tests.gateway.talking import read_head, talking

OK = Answer(200, {"images": [], "seed": 7})

Receive = Callable[[str, dict[str, str], bytes], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Owed:
    request_id: str
    url: str
    answer: Answer = OK
    key: str = "owner"
    attempt: int = 0


@dataclass
class MemoryOutbox:
    """Due at a time of the event loop's clock; leases never run out."""

    due: list[tuple[float, Owed]] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    faults: list[tuple[str, str, float]] = field(default_factory=list)
    postponed: int = 0
    broken: int = 0

    def owe(self, *owed: Owed) -> None:
        self.due += [(0.0, one) for one in owed]

    async def claim(self, owner: str, count: int, lease_s: float) -> Sequence[Owed]:
        if self.broken:
            self.broken -= 1
            raise ConnectionError("no database")
        now = asyncio.get_running_loop().time()
        ready = sorted((entry for entry in self.due if entry[0] <= now), key=lambda entry: entry[0])[:count]
        for entry in ready:
            self.due.remove(entry)
        return [replace(owed, attempt=owed.attempt + 1) for _, owed in ready]

    async def delivered(self, held: Owed) -> bool:
        self.taken.append(held.request_id)
        return True

    async def failed(self, held: Owed, error: str, retry_s: float) -> object:
        self.faults.append((held.request_id, error, retry_s))
        return None

    async def postpone(self, held: Sequence[Owed], delay_s: float) -> None:
        self.postponed += len(held)
        at = asyncio.get_running_loop().time() + delay_s
        self.due += [(at, replace(one, attempt=one.attempt - 1)) for one in held]


@asynccontextmanager
async def receiving(receive: Receive) -> AsyncIterator[str]:
    """A receiver whose answer's status is what `receive(path, headers, body)` gives; 0 closes without an answer."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, headers = await read_head(reader)
        status = await receive(first, headers, await reader.readexactly(int(headers["content-length"])))
        if status:
            writer.write(f"HTTP/1.1 {status} X\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n".encode())
            await writer.drain()

    async with talking(talk) as url:
        yield url
