"""What clients ask by fal's own client, each kind with the ends that it may have."""

import asyncio
import base64
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

import fal_client
import httpx
from fal_client.client import AsyncRequestHandle, FalClientHTTPError
from httpx_sse import aconnect_sse

from benchmarks.soak import pictures
from benchmarks.soak.pictures import Server
from benchmarks.soak.served import LORAS

FAST = "fal-ai/fast-fooocus-sdxl"
FAST_IMAGE_TO_IMAGE = f"{FAST}/image-to-image"
FOOOCUS = "fal-ai/fooocus"
SIDE = 192
PLAIN: Mapping[str, Any] = MappingProxyType(
    {"image_size": {"width": SIDE, "height": SIDE}, "num_inference_steps": 4, "expand_prompt": False}
)
FOOOCUS_PLAIN: Mapping[str, Any] = MappingProxyType(
    {"aspect_ratio": f"{SIDE}x{SIDE}", "performance": "Lightning", "styles": []}
)
# long enough to be left or cancelled on the way
LONG: Mapping[str, Any] = MappingProxyType(
    {"image_size": "square", "num_inference_steps": 24, "num_images": 2, "expand_prompt": False}
)
COLOURS = ("red", "green", "blue", "yellow", "purple", "pink", "black", "brown")
POLLED_S, HEARD_S, PATIENCE_S = 0.5, 60.0, 600.0
LEAVES_AFTER_S, IMPATIENT_S = 0.6, 2
OK, LEFT, CANCELLED, TIMED_OUT = "ok", "left", "client_cancelled", "timed out"
LAST_ID: ContextVar[list[str]] = ContextVar("LAST_ID")
_SSE = httpx.Timeout(PATIENCE_S)

Do = Callable[["Clients", int], Awaitable[str]]


@dataclass(frozen=True)
class Kind:
    """do: asks, and says how it ended. ends: those that are right. weight: how many of a round."""

    name: str
    do: Do
    ends: frozenset[str]
    weight: int = 1


@dataclass
class Told:
    """How one ask ended. request_ids: of what was accepted of it, as far as its client heard."""

    kind: Kind
    end: str
    seconds: float
    request_ids: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        return self.end in self.kind.ends


@dataclass(eq=False)
class Clients:
    """Of one service. server: of pictures and webhooks."""

    client: fal_client.AsyncClient
    http: httpx.AsyncClient
    server: Server

    async def ask(self, kind: Kind, number: int) -> Told:
        """Never raises for what the service does: it is told."""
        ids: list[str] = []
        LAST_ID.set(ids)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            async with asyncio.timeout(PATIENCE_S):
                end = await kind.do(self, number)
        except FalClientHTTPError as error:
            end = reason(error)
        except TimeoutError:
            end = f"nothing in {PATIENCE_S:.0f} s"
        except (httpx.HTTPError, RuntimeError, ValueError) as error:
            end = f"{type(error).__name__}: {error}"[:120]
        return Told(kind, end, loop.time() - begun, list(dict.fromkeys(ids)))

    async def run(self, endpoint: str, given: Mapping[str, Any]) -> str:
        return ended(await self.client.run(endpoint, dict(given)))

    async def subscribe(self, endpoint: str, given: Mapping[str, Any], **more: Any) -> str:
        def heard(_: object) -> None:
            """The client asks for what it shows on the way."""

        answer = await self.client.subscribe(
            endpoint, dict(given), with_logs=True, on_queue_update=heard, interval=POLLED_S, **more
        )
        return ended(answer)

    async def submit(self, endpoint: str, given: Mapping[str, Any], **more: Any) -> AsyncRequestHandle:
        return await self.client.submit(endpoint, dict(given), **more)


@asynccontextmanager
async def clients(address: str, server: Server) -> AsyncIterator[Clients]:
    """fal's client calls the service at `address` from here on."""
    constants = fal_client.client
    for name, value in {
        "RUN_URL_FORMAT": f"{address}/run/",
        "QUEUE_URL_FORMAT": f"{address}/queue/",
        "REST_URL": f"{address}/rest",
        "CDN_URL": f"{address}/cdn",
        "MULTIPART_THRESHOLD": 2**18,
        "MULTIPART_CHUNK_SIZE": 2**17,
    }.items():
        setattr(constants, name, value)
    client = fal_client.AsyncClient(key="any:key")
    http = await client._client
    http.event_hooks["response"].append(_note)
    try:
        yield Clients(client, http, server)
    finally:
        await http.aclose()


async def _note(answer: httpx.Response) -> None:
    """The id of what was accepted. fal's client shows none where it is not asked for."""
    if answer.request.method == "POST" and not answer.is_error and "/rest/" not in str(answer.url):
        with suppress(LookupError, KeyError):
            LAST_ID.get().append(answer.headers["x-fal-request-id"])


def ended(answer: Mapping[str, Any]) -> str:
    return OK if answer["images"] else "no picture"


def reason(error: FalClientHTTPError) -> str:
    """Why a request was refused or failed: the type of the first error where it names fields, else of it all."""
    with suppress(ValueError, LookupError, TypeError):
        return f"{error.status_code} {error.response.json()['detail'][0]['type']}"
    return error.error_type or f"{error.status_code} {error.message}"[:80]


def prompt(number: int) -> dict[str, Any]:
    return {"prompt": f"a {COLOURS[number % len(COLOURS)]} circle, {number % 50}", "seed": number}


def fast(number: int, **more: Any) -> dict[str, Any]:
    return {**PLAIN, **prompt(number), **more}


def fooocus(number: int, **more: Any) -> dict[str, Any]:
    return {**FOOOCUS_PLAIN, **prompt(number), **more}


def long(number: int) -> dict[str, Any]:
    return {**LONG, **prompt(number)}


def pick(names: Mapping[str, Any], number: int) -> str:
    return [*names][number % len(names)]


async def _run(one: Clients, number: int) -> str:
    return await one.run(FAST, fast(number, num_images=1 + number % 3))


async def _subscribe(one: Clients, number: int) -> str:
    return await one.subscribe(FAST, fast(number, expand_prompt=True, format="png"))


async def _fooocus(one: Clients, number: int) -> str:
    return await one.subscribe(FOOOCUS, fooocus(number, sync_mode=number % 2 == 0))


async def _stream(one: Clients, number: int) -> str:
    events = [event async for event in one.client.stream(FAST, fast(number, enable_safety_checker=False))]
    return ended(events[-1])


async def _webhook(one: Clients, number: int) -> str:
    handle = await one.submit(FAST, fast(number), webhook_url=one.server.hook, priority="low")
    answer = await handle.get(interval=POLLED_S)
    for _ in range(int(HEARD_S / POLLED_S)):
        if one.server.heard[handle.request_id]:
            return ended(answer)
        await asyncio.sleep(POLLED_S)
    return "no webhook"


async def _leave_a_stream(one: Clients, number: int) -> str:
    events = one.client.stream(FAST, long(number))
    async for _ in events:
        break
    await events.aclose()  # type: ignore[attr-defined]
    return LEFT


async def _leave_a_run(one: Clients, number: int) -> str:
    try:
        return await asyncio.wait_for(one.run(FAST, long(number)), LEAVES_AFTER_S)
    except TimeoutError:
        return LEFT


async def _leave_a_status(one: Clients, number: int) -> str:
    """Not the request, whose result is fetched later."""
    handle = await one.submit(FAST, fast(number))
    async with aconnect_sse(one.http, "GET", f"{handle.status_url}/stream", timeout=_SSE) as events:
        async for _ in events.aiter_sse():
            break
    return ended(await handle.get(interval=POLLED_S))


async def _cancel(one: Clients, number: int) -> str:
    handle = await one.submit(FAST, long(number))
    await handle.cancel()
    return ended(await handle.get(interval=POLLED_S))


async def _cancel_drawn(one: Clients, number: int) -> str:
    handle = await one.submit(FAST, long(number))
    async for event in handle.iter_events(interval=POLLED_S, with_logs=True):
        if isinstance(event, fal_client.InProgress):
            break
    with suppress(FalClientHTTPError):  # where it has ended before
        await handle.cancel()
    return ended(await handle.get(interval=POLLED_S))


async def _impatient(one: Clients, number: int) -> str:
    try:
        return await one.subscribe(FAST, long(number), client_timeout=IMPATIENT_S)
    except fal_client.FalClientTimeoutError:
        return TIMED_OUT


async def _bad_field(one: Clients, number: int) -> str:
    return await one.run(FAST, fast(number, num_inference_steps=99))


async def _unknown_endpoint(one: Clients, number: int) -> str:
    await one.submit("fal-ai/no-such-model", prompt(number))
    return OK


async def _unknown_lora(one: Clients, number: int) -> str:
    return await one.subscribe(FOOOCUS, fooocus(number, loras=[{"path": f"none_{number}.safetensors"}]))


async def _loras(one: Clients, number: int) -> str:
    """Of eight, one to three at once, at scales of their own."""
    chosen = random.Random(number).sample([*LORAS], 1 + number % 3)
    loras = [{"path": name, "scale": 0.2 + (number + at) % 7 / 10} for at, name in enumerate(chosen)]
    return await one.subscribe(FOOOCUS, fooocus(number, loras=loras))


async def _broken(name: str, one: Clients, number: int) -> str:
    return await one.subscribe(FAST_IMAGE_TO_IMAGE, fast(number, image_url=one.server.url(name)))


async def _image_prompts(one: Clients, number: int) -> str:
    kinds = ("PyraCanny", "CPDS", "ImagePrompt", "FaceSwap")
    given = {
        f"image_prompt_{place}": {
            "type": kinds[(number + place) % 4],
            "image_url": one.server.url(pick(pictures.SMALL, number + place)),
            "weight": 0.6,
            "stop_at": 0.8,
        }
        for place in range(1, 2 + number % 4)
    }
    return await one.subscribe(f"{FOOOCUS}/image-prompt", fooocus(number, **given))


async def _inpaint(one: Clients, number: int) -> str:
    url = one.server.url
    return await one.subscribe(
        f"{FOOOCUS}/inpaint",
        fooocus(number, inpaint_image_url=url("small.png"), mask_image_url=url(pictures.MASK)),
    )


async def _vary(one: Clients, number: int) -> str:
    method = ("Vary (Subtle)", "Upscale (Fast 2x)")[number % 2]
    given = fooocus(number, uov_image_url=one.server.url("small.png"), uov_method=method)
    return await one.subscribe(f"{FOOOCUS}/upscale-or-vary", given)


async def _upload(one: Clients, number: int) -> str:
    """Whole where it is small, else in parts."""
    name = pick({**pictures.SMALL, "4000.jpg": ()}, number)
    kind = f"image/{name.rsplit('.', 1)[1].replace('jpg', 'jpeg')}"
    url = await one.client.upload(one.server.pictures[name], kind, name)
    return await one.subscribe(FAST_IMAGE_TO_IMAGE, fast(number, image_url=url, strength=0.6))


async def _large(one: Clients, number: int) -> str:
    given = fast(number, image_url=one.server.url(pick(pictures.LARGE, number)), strength=0.6)
    return await one.subscribe(FAST_IMAGE_TO_IMAGE, given)


async def _large_in_the_body(one: Clients, number: int) -> str:
    content = base64.b64encode(one.server.pictures["4000.jpg"]).decode()
    return await one.run(FAST_IMAGE_TO_IMAGE, fast(number, image_url=f"data:image/jpeg;base64,{content}"))


def _kind(name: str, do: Do, *ends: str, weight: int = 1) -> Kind:
    return Kind(name, do, frozenset(ends or (OK,)), weight)


KINDS = (
    _kind("sync run", _run, weight=4),
    _kind("subscribed, prompt expanded", _subscribe, weight=2),
    _kind("Fooocus", _fooocus, weight=2),
    _kind("streamed", _stream, weight=2),
    _kind("with a webhook", _webhook, weight=2),
    _kind("LoRAs of eight files", _loras, weight=3),
    _kind("image prompts", _image_prompts, weight=2),
    _kind("inpainted", _inpaint, weight=2),
    _kind("varied or upscaled", _vary),
    _kind("uploaded and drawn over", _upload, weight=2),
    _kind("large picture by address", _large, weight=3),
    _kind("large picture in the body", _large_in_the_body),
    _kind("stream left", _leave_a_stream, LEFT, weight=2),
    _kind("sync run left", _leave_a_run, LEFT, OK, weight=2),
    _kind("status stream left", _leave_a_status),
    _kind("cancelled at once", _cancel, CANCELLED, weight=2),
    _kind("cancelled while drawn", _cancel_drawn, CANCELLED, OK, weight=2),
    _kind("out of patience", _impatient, TIMED_OUT, OK),
    _kind("field out of range", _bad_field, "422 less_than_equal"),
    _kind("unknown endpoint", _unknown_endpoint, "bad_request"),
    _kind("unknown LoRA", _unknown_lora, "422 feature_not_supported"),
    _kind("picture that is missing", partial(_broken, pictures.MISSING), "422 file_download_error"),
    _kind("picture that is damaged", partial(_broken, pictures.DAMAGED), "422 image_load_error"),
    _kind("picture that is too large", partial(_broken, pictures.HUGE), "422 image_too_large"),
)


def in_rounds(seed: int) -> Iterator[Kind]:
    """Without end, each kind as often as its weight says in every round, in orders that the seed decides."""
    chance = random.Random(seed)
    while True:
        round_ = [kind for kind in KINDS for _ in range(kind.weight)]
        chance.shuffle(round_)
        yield from round_
