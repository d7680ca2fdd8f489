"""Clients that leave at any moment of a submit: no picture is left that nobody names, and no run that nobody wants."""

import asyncio
from contextlib import suppress
from random import Random

import httpx2
import pytest

from gateway.http.parts import Parts
from gateway.ledger.models import State
from tests.gateway.fakes import FAST, PIXEL, FakeRunner, LocalDispatcher, until
from tests.gateway.http.conftest import Dispatch

REDRAW = f"{FAST}/image-to-image"
CALLS = 150
INPUT = {"prompt": "x", "seed": 1, "image_url": PIXEL, "image_size": {"width": 512, "height": 512}}


@pytest.mark.parametrize("door", ["run", "queue", "stream"])
async def test_nothing_is_left_of_callers_who_break_off(
    client: httpx2.AsyncClient,
    parts: Parts,
    runner: FakeRunner,
    dispatcher: LocalDispatcher,
    dispatch: Dispatch,
    door: str,
) -> None:
    random = Random(door)
    path = f"/queue/{REDRAW}" if door == "queue" else f"/run/{REDRAW}" + ("/stream" if door == "stream" else "")

    async def break_off() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(random.choice([0, random.uniform(0, 0.03)])):
                await client.post(path, json=INPUT)

    assert parts.history is not None
    history, stored = parts.history, parts.settings.data_dir / "files" / "inputs"

    async def nothing_is_left() -> bool:
        entries = (await history.list(limit=1000)).entries
        records = [await history.show(entry.request_id) for entry in entries]
        named = {key for record in records if record is not None for key in record.media}
        found = {f"inputs/{path.relative_to(stored)}" for path in stored.rglob("[!.]*") if path.is_file()}
        return all(entry.state is State.DONE for entry in entries) and found <= named

    async with dispatch():
        for _ in range(CALLS // 10):
            await asyncio.gather(*(break_off() for _ in range(10)))
        await until(nothing_is_left)
