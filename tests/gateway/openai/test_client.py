"""OpenAI's published client draws here."""

import asyncio
import base64
import runpy
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import openai as published
import pytest
from openai import AsyncOpenAI

from gateway.app import Parts
from gateway.endpoints import ENDPOINTS
from gateway.errors import ModelError, PlatformError
from gateway.ledger.models import Outcome, State
from gateway.ledger.store import SqlLedger
from tests.clients.guard import Guard
from tests.gateway.fakes import FAST, FakeRunner, until
from tests.gateway.http.conftest import APP, Reach, serving
from tests.gateway.openai.conftest import RED, opened, with_hole
from tests.gateway.storing_runner import DRAWN
from tests.pages import ADDRESS, blocks, page

ASKED: Mapping[str, Any] = {"model": FAST, "prompt": "a red cube"}

pytestmark = pytest.mark.usefixtures("dispatched")


async def test_the_models_are_the_endpoints(openai: AsyncOpenAI) -> None:
    found = [model async for model in openai.models.list()]
    assert [model.id for model in found] == [*ENDPOINTS]
    assert await openai.models.retrieve(found[1].id) == found[1]


async def test_a_generation_is_a_run_of_its_endpoint(
    openai: AsyncOpenAI, runner: FakeRunner, ledger: SqlLedger
) -> None:
    drawn = await openai.images.with_raw_response.generate(
        **ASKED, n=2, size="512x256", user="somebody", extra_body={"seed": 7, "enable_safety_checker": False}
    )
    found = drawn.parse()
    assert found.data is not None
    assert [base64.b64decode(one.b64_json or "") for one in found.data] == [DRAWN]
    assert (found.output_format, found.size, found.background) == ("png", "8x8", "opaque")
    (work,) = runner.seen
    assert (work.spec.prompt, work.spec.seeds, work.spec.check_safety) == ("a red cube", (7, 8), False)
    assert work.spec.size is not None
    assert (work.spec.size.width, work.spec.size.height) == (512, 256)
    assert drawn.headers["x-request-id"] == drawn.headers["x-fal-request-id"] == work.request_id
    assert "user" in drawn.headers["x-fooocus-inactive"]
    status = await ledger.status(work.request_id, APP)
    assert status is not None
    assert status.outcome is Outcome.OK


async def test_addresses_open_where_they_are_asked_for(openai: AsyncOpenAI) -> None:
    found = await openai.images.generate(**ASKED, response_format="url")
    assert found.data is not None
    (one,) = found.data
    assert one.b64_json is None
    async with httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.get(one.url or "")).content == DRAWN


async def test_a_picture_whose_file_has_gone_is_no_success(openai: AsyncOpenAI, parts: Parts) -> None:
    with pytest.MonkeyPatch.context() as patch:

        async def nothing(key: str) -> None:
            return None

        patch.setattr(parts.files, "stat", nothing)
        with pytest.raises(published.InternalServerError, match="not there any more"):
            await openai.images.generate(**ASKED)


async def test_an_edit_paints_where_the_mask_is_transparent(
    openai: AsyncOpenAI, runner: FakeRunner, parts: Parts
) -> None:
    found = await openai.images.edit(
        model="fal-ai/fooocus/inpaint",
        prompt="a blue ball",
        image=("a.png", RED, "image/png"),
        mask=("mask.png", with_hole((0, 0, 32, 16)), "image/png"),
        extra_body={"seed": 7, "styles": ["Fooocus Sharp"]},
    )
    assert found.data is not None
    assert base64.b64decode(found.data[0].b64_json or "") == DRAWN
    spec = runner.seen[0].spec
    assert (spec.seeds, spec.styles) == ((7,), ("Fooocus Sharp",))
    contents = [await parts.files.get(picture.source.removeprefix("stored:")) for picture in spec.pictures]
    image, mask = (opened(stored.content) for stored in contents if stored is not None)
    assert image.getpixel((1, 1)) == (255, 0, 0)
    assert [mask.getpixel(at) for at in ((1, 1), (31, 15), (32, 1), (1, 16))] == [255, 255, 0, 0]


async def test_several_images_guide_a_picture(openai: AsyncOpenAI, runner: FakeRunner) -> None:
    files = [BytesIO(RED), BytesIO(RED)]
    await openai.images.edit(model="fal-ai/fooocus/image-prompt", prompt="a blue ball", image=files)
    assert [picture.field for picture in runner.seen[0].spec.pictures] == [
        "image_prompt_1.image_url",
        "image_prompt_2.image_url",
    ]


async def test_a_refusal_is_the_clients_own_error(openai: AsyncOpenAI, runner: FakeRunner) -> None:
    refusals: list[tuple[dict[str, Any], type[published.APIStatusError], str | None, str]] = [
        ({"n": 9}, published.BadRequestError, "n", "less_than_equal"),
        ({"size": "1x1"}, published.BadRequestError, "size", "greater_than_equal"),
        ({"quality": "max"}, published.BadRequestError, "quality", "one_of"),
        ({"extra_body": {"colour": "red"}}, published.BadRequestError, "colour", "unknown_parameter"),
        ({"extra_body": {"seed": "x"}}, published.BadRequestError, "seed", "int_parsing"),
        ({"model": "dall-e-3"}, published.NotFoundError, None, "model_not_found"),
    ]
    for sent, kind, param, code in refusals:
        with pytest.raises(kind) as refused:
            await openai.images.generate(**{**ASKED, **sent})
        error = refused.value
        assert (error.param, error.code, error.type) == (param, code, "invalid_request_error")
    assert runner.seen == []


async def test_a_failure_of_the_model_is_told_as_one(openai: AsyncOpenAI, runner: FakeRunner) -> None:
    runner.fault = ModelError("image_too_small", "Too small.", ("image_url",))
    with pytest.raises(published.BadRequestError, match="image: Too small") as refused:
        await openai.images.edit(
            model="fal-ai/fast-fooocus-sdxl/image-to-image", prompt="a cube", image=("a.png", RED, "image/png")
        )
    assert (refused.value.param, refused.value.request_id) == ("image", runner.ids[0])
    runner.fault = PlatformError("runner_server_error", "It broke.")
    with pytest.raises(published.InternalServerError, match="It broke") as broken:
        await openai.images.generate(**ASKED)
    assert (broken.value.type, broken.value.response.headers["x-should-retry"]) == ("server_error", "false")


async def test_a_client_that_leaves_cancels(
    openai: AsyncOpenAI, runner: FakeRunner, ledger: SqlLedger, reach: Reach
) -> None:
    runner.pause_s = 60
    call = asyncio.create_task(openai.images.generate(**ASKED))
    await until(runner.begun)
    await reach(runner.ids[0], State.RUNNING)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await reach(runner.ids[0], State.DONE)
    status = await ledger.status(runner.ids[0], APP)
    assert status is not None
    assert status.outcome is Outcome.CANCELLED


async def test_the_pages_program_runs_as_it_is_printed(parts: Parts, guard: Guard, tmp_path: Path) -> None:
    source = blocks(page("docs/other-front-ends.md"), "python")[0]
    assert source.count(ADDRESS) == 1
    async with serving(parts) as address:
        program = source.replace(ADDRESS, address).replace('"cube.jpg"', repr(str(tmp_path / "cube.jpg")))
        (tmp_path / "app.py").write_text(program, encoding="utf-8")
        with guard.watching():
            ended = await asyncio.to_thread(runpy.run_path, str(tmp_path / "app.py"), run_name="__main__")
            ended["client"].close()
    assert (tmp_path / "cube.jpg").read_bytes() == DRAWN
