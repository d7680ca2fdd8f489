"""A scripted runner, and inputs and works for the tests of the gateway."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from gateway.work import Delivering, Delivery, Event, Finished, Image, Preview, Step, Work
from gateway.worker.capacity import Room
from gateway.worker.dispatcher import DispatchLoop
from gateway.worker.events import Broadcast, Changed, News, Submitted
from gateway.worker.overview import Overview
from pipelines.spec import Guidance, Spec

FAST = "fal-ai/fast-fooocus-sdxl"
INPAINT = "fal-ai/fooocus/inpaint"
INPUT: Mapping[str, str | int] = {"prompt": "a red cube", "seed": 7}
PIXEL = (  # one pixel, PNG
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAA"
    "DUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(30):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


def finished(work: Work) -> Finished:
    key = f"outputs/{work.request_id}/0.png"
    image = Image(
        url=f"{work.base_url}/files/{key}",
        content_type="image/png",
        file_name="0.png",
        file_size=10,
        width=8,
        height=8,
        key=key,
    )
    return Finished(images=[image], nsfw=[False], timings={"inference": 0.1}, prompt=work.spec.prompt)


class Clock:
    """Seconds, as a test sets them."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeRunner:
    """Waits for `gate`, says `steps` steps `pause_s` apart, delivers for `delivery_s`, then finishes or raises `fault`.

    After each step but the first comes a preview, where asked. Prompts named in `faults` raise theirs instead.
    seen: works begun. left: ids whose iterator has ended or was closed. most_at_once: of these between, ever.
    """

    def __init__(
        self, steps: int = 3, pause_s: float = 0.0, fault: BaseException | None = None, delivery_s: float = 0.0
    ) -> None:
        self.steps, self.pause_s, self.fault, self.delivery_s = steps, pause_s, fault, delivery_s
        self.faults: dict[str, BaseException] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.seen: list[Work] = []
        self.left: list[str] = []
        self.most_at_once = 0

    async def begun(self) -> bool:
        return bool(self.seen)

    async def all_left(self) -> bool:
        return len(self.left) == len(self.seen)

    @property
    def ids(self) -> Sequence[str]:
        return [work.request_id for work in self.seen]

    async def run(self, work: Work, previews: bool = False) -> AsyncIterator[Event]:
        self.seen.append(work)
        self.most_at_once = max(self.most_at_once, len(self.seen) - len(self.left))
        try:
            await self.gate.wait()
            for step in range(self.steps + 1):
                yield Step(step, self.steps)
                if previews and step:
                    yield Preview(step, self.steps, [b"%d" % step], "image/jpeg", 4, 3)
                await asyncio.sleep(self.pause_s)
            if self.steps >= 0:
                yield Delivering()
                await asyncio.sleep(self.delivery_s)
            if (fault := self.faults.get(work.spec.prompt, self.fault)) is not None:
                raise fault
            yield finished(work)
        finally:
            self.left.append(work.request_id)


class LocalDispatcher:
    """A `DispatcherLink` to a dispatcher of this process, if there is one. While `away`, nothing reaches it."""

    def __init__(self) -> None:
        self.broadcast = Broadcast()
        self.dispatching: DispatchLoop | None = None
        self.away = False
        self.told = Overview("leading", 60.0)

    async def poll(
        self, listener: str, number: int, runs: Mapping[str, bool], submitted: Sequence[Submitted] = ()
    ) -> News:
        self._reach()
        self.broadcast.follow(listener, number, runs)
        if self.dispatching is None:
            return News(await self.broadcast.events(listener))
        for request_id, claim in submitted:
            await self.dispatching.submitted(request_id, claim)
        return News(await self.broadcast.events(listener), self.dispatching.free_places())

    async def watch(self, listener: str) -> Changed:
        self._reach()
        return await self.broadcast.watch(listener)

    async def wake(self) -> None:
        self._reach()
        if self.dispatching is not None:
            self.dispatching.wake()

    async def hear(self, request_id: str) -> None:
        self._reach()
        if self.dispatching is not None:
            self.dispatching.hear(request_id)

    async def room(self) -> Room:
        self._reach()
        return Room(replicas=1, capacity=8)

    async def overview(self) -> Overview:
        self._reach()
        return self.told

    def _reach(self) -> None:
        if self.away:
            raise ConnectionError("the dispatcher is away")


def work(name: str, endpoint: str = FAST, prompt: str = "a red cube") -> Work:
    return Work(
        request_id=name,
        endpoint=endpoint,
        spec=Spec(prompt=prompt, seeds=(7,), steps=4, sampler="lcm", schedule="lcm", guidance=Guidance(scale=1)),
        delivery=Delivery(format="png"),
        base_url="http://127.0.0.1:8000",
    )
