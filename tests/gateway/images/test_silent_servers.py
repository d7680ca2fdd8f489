"""A server that does not answer costs one wait, not one for each request; and nobody can make another one silent."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.errors import ModelError
from gateway.images.fetch import FORGET_S, Fetcher, FetchLimits, SilentServers
from tests.gateway.fakes import until
from tests.gateway.images.test_fetch import answer, redirect, serving
from tests.gateway.talking import talking
from tests.gateway.weights.files import FIELD, finder, refused, weights

GRACE_S = 1.5
LIMITS = FetchLimits(timeout_s=5, allow_loopback=True, grace_s=GRACE_S, least_bytes_per_s=1000)


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@asynccontextmanager
async def hanging(asked: list[str]) -> AsyncIterator[str]:
    """The address of a server that takes calls and never answers one, unless its path is `/quick`."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split()[1])
        if asked[-1] == "/quick":
            writer.write(answer(b"here"))
        else:
            await reader.read()

    async with talking(talk) as url:
        yield url


async def fails(fetcher: Fetcher, url: str, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        await fetcher.fetch(url, 100)


async def test_it_is_waited_for_once_and_asked_again_after_a_while(clock: Clock) -> None:
    asked: list[str] = []
    fetcher = Fetcher(LIMITS, silent=SilentServers(clock))
    async with hanging(asked) as url, serving(lambda *_: answer(b"other")) as other:
        await fails(fetcher, f"{url}/a", "did not arrive in time")
        for name in "bcd":
            await fails(fetcher, f"{url}/{name}", "does not answer")
        assert asked == ["/a"]
        assert await fetcher.fetch(other, 100) == b"other"
        clock.ahead = FORGET_S
        await fails(fetcher, f"{url}/e", "did not arrive in time")
    assert asked == ["/a", "/e"]


async def test_one_behind_a_redirect_is_remembered_and_the_one_before_it_is_not(clock: Clock) -> None:
    asked: list[str] = []
    fetcher = Fetcher(LIMITS, silent=SilentServers(clock))
    async with (
        hanging(asked) as url,
        serving(lambda path, _: answer(b"own") if path == "/own" else redirect(f"{url}/a")) as hub,
    ):
        await fails(fetcher, f"{hub}/file", "did not arrive in time")
        await fails(fetcher, f"{hub}/file", "does not answer")
        assert await fetcher.fetch(f"{hub}/own", 100) == b"own"
    assert asked == ["/a"]


async def test_one_that_was_given_little_time_is_not_taken_for_silent(clock: Clock) -> None:
    """Or an address that spends the time and redirects there would shut it for all."""
    asked: list[str] = []
    fetcher = Fetcher(LIMITS, silent=SilentServers(clock))

    async with hanging(asked) as url:

        async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.7 * GRACE_S)
            writer.write(redirect(f"{url}/a"))

        async with talking(late) as spending:
            await fails(fetcher, spending, "did not arrive in time")
        assert await fetcher.fetch(f"{url}/quick", 100) == b"here"


async def test_one_that_answers_others_meanwhile_is_not_silent(clock: Clock) -> None:
    """One slow file of a server says nothing of its others."""
    asked: list[str] = []
    fetcher = Fetcher(LIMITS, silent=SilentServers(clock))
    async with hanging(asked) as url:
        waiting = asyncio.create_task(fails(fetcher, f"{url}/slow", "did not arrive in time"))

        async def begun() -> bool:
            return bool(asked)

        await until(begun)
        assert await fetcher.fetch(f"{url}/quick", 100) == b"here"
        await waiting
        assert await fetcher.fetch(f"{url}/quick", 100) == b"here"


async def test_weights_of_before_are_used_at_once_while_their_server_is_silent(tmp_path: Path, clock: Clock) -> None:
    asked: list[str] = []
    hangs = False

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split()[1])
        if hangs:
            await reader.read()
        else:
            writer.write(answer(weights()))

    silent = SilentServers(clock)
    finds = finder(tmp_path, grace_s=GRACE_S, remember_s=0, silent=silent)
    async with talking(talk) as url:
        known = await finds.find(f"{url}/a", FIELD, "LoRA")
        hangs = True
        await refused(finds, f"{url}/b", "file_download_error", "in time")
        assert await finds.find(f"{url}/a", FIELD, "LoRA") == known
    assert asked == ["/a", "/b"]


def test_few_servers_are_remembered() -> None:
    silent = SilentServers(lambda: 1.0, most=3)
    for number in range(5):
        silent.unanswered(f"http://{number}", 0.0)
    assert [silent.is_silent(f"http://{number}") for number in range(5)] == [False, False, True, True, True]
    silent.answered("http://3")
    assert not silent.is_silent("http://3")
