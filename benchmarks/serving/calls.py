"""One request of each kind, as a client makes it. Raises for any answer that is not what was asked for."""

import json
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Self

from aiohttp import ClientSession, ClientTimeout, TCPConnector

APP = "fal-ai/fast-fooocus-sdxl"
INPUT: Mapping[str, Any] = MappingProxyType(
    {"prompt": "a cube", "num_inference_steps": 4, "expand_prompt": False, "format": "png"}
)
TIMEOUT_S = 120.0

Call = Callable[[], Awaitable[None]]


class Calls:
    """A client of what `benchmarks.serving.cluster` deploys; to be entered."""

    def __init__(self, address: str) -> None:
        # aiohttp takes little of the two cores that it shares with what it measures
        self._session = ClientSession(
            address, connector=TCPConnector(limit=0), timeout=ClientTimeout(TIMEOUT_S), raise_for_status=True
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._session.close()

    async def bare(self) -> None:
        await self._json("GET", "/bare")

    async def chain(self) -> None:
        _check_pictures(await self._json("POST", "/chain", INPUT))

    async def sync(self) -> None:
        """A picture in the answer to its request."""
        _check_pictures(await self._json("POST", f"/run/{APP}", INPUT))

    async def queue(self) -> None:
        """Submit, follow the status as events until it is COMPLETED, and read the result."""
        submitted = await self._json("POST", f"/queue/{APP}", INPUT)
        request = f"/queue/{APP}/requests/{submitted['request_id']}"
        async with self._session.get(f"{request}/status/stream") as stream:
            async for line in stream.content:
                if is_completed(line):
                    break
            else:
                raise RuntimeError("a status stream ended before its request")
            _check_pictures(await self._json("GET", request))

    async def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        sent = None if body is None else dict(body)
        async with self._session.request(method, path, json=sent) as answer:
            return await answer.json()


def is_completed(line: bytes) -> bool:
    """Whether a line of a status stream says that the request has ended. Raises where it ended with an error."""
    if not line.startswith(b"data:"):
        return False
    status = json.loads(line.removeprefix(b"data:"))
    if "error" in status:
        raise RuntimeError(f"a request failed: {status['error']}")
    return bool(status["status"] == "COMPLETED")


def _check_pictures(answer: Mapping[str, Any]) -> None:
    if len(answer["images"]) != 1:
        raise RuntimeError(f"a request has {len(answer['images'])} pictures")
