"""Requests that waited when the specs had a start and controls are drawn from the same pictures."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import text

from gateway.ledger.former_work import read_work
from gateway.ledger.models import Outcome
from gateway.ledger.store import SqlLedger
from gateway.work import Delivery, Work
from pipelines.spec import Guidance, Lora, Picture, Size, Spec, Start, Structure
from tests.gateway.ledger.works import OK, engine_of, work

# Written by commit 8fae4d3: six bodies through its `Endpoint.order`, `take_in` and `SqlLedger.submit`, then vacuumed.
FILE = Path(__file__).parents[2] / "data" / "ledger-8fae4d3.db"
PHOTO = "https://example.com/photo.png"
NAMES = tuple(f"0f8fad5b-d9cb-469f-a165-{number:012}" for number in range(1, 7))
OFFSET = (
    "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/"
    "sd_xl_offset_example-lora_1.0.safetensors"
)
LCM = Lora(source="sdxl_lcm_lora.safetensors", scale=1.0, performance=True)
INLINE = "stored:inputs/{}/{}.png"


def redrawn(prompt: str, seed: int, start: Start) -> Spec:
    return Spec(
        prompt=prompt,
        seeds=(seed,),
        steps=8,
        sampler="lcm",
        schedule="tail",
        guidance=Guidance(scale=2.0),
        loras=(LCM,),
        pictures=(start,),
        expand_prompt=True,
    )


def guided(prompt: str, seed: int, *pictures: Picture) -> Spec:
    return Spec(
        prompt=prompt,
        size=Size(width=1024, height=1024),
        seeds=(seed,),
        steps=8,
        sampler="lcm",
        schedule="lcm",
        guidance=Guidance(scale=1.0),
        loras=(Lora(source=OFFSET, scale=0.1), LCM),
        pictures=pictures,
    )


SPECS = (
    redrawn("from an address", 1, Start(source=PHOTO, strength=0.8, field="image_url")),
    redrawn("from inside the request", 2, Start(source=INLINE.format(NAMES[1], 0), strength=0.3, field="image_url")),
    guided(
        "edges",
        3,
        Structure(kind="PyraCanny", source=PHOTO, weight=0.7, stop_at=0.4, field="control_image_url"),
    ),
    guided(
        "structure",
        4,
        Structure(kind="CPDS", source=INLINE.format(NAMES[3], 0), field="control_image_url"),
    ),
    guided(
        "one picture, two ways",
        5,
        Structure(kind="CPDS", source=PHOTO, weight=0.5, stop_at=0.5, field="image_prompt_1.image_url"),
        Structure(kind="PyraCanny", source=PHOTO, weight=1.5, stop_at=0.9, field="image_prompt_3.image_url"),
        Structure(kind="PyraCanny", source=INLINE.format(NAMES[4], 2), stop_at=0.5, field="image_prompt_4.image_url"),
    ),
    guided("no picture", 6),
)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqlLedger]:
    path = shutil.copy(FILE, tmp_path / "ledger.db")
    opened = await SqlLedger.open(f"sqlite:///{path}")
    yield opened
    await opened.close()


async def test_what_waited_is_claimed_with_its_pictures_by_role(ledger: SqlLedger) -> None:
    claims = await ledger.claim("new", 9, 60)
    assert tuple(claim.work.request_id for claim in claims) == NAMES
    assert tuple(claim.work.spec for claim in claims) == SPECS
    assert claims[4].work == Work(
        request_id=NAMES[4],
        endpoint="fal-ai/fooocus/image-prompt",
        spec=SPECS[4],
        delivery=Delivery(format="jpeg"),
        base_url="http://127.0.0.1:8000",
    )
    for claim in claims:
        assert await ledger.running(claim)
        assert await ledger.finish(claim, Outcome.OK, OK)


async def test_a_former_row_of_a_kind_that_never_was_ends_and_the_others_go_on(
    ledger: SqlLedger, tmp_path: Path
) -> None:
    engine = engine_of(f"sqlite:///{tmp_path / 'ledger.db'}")
    with engine.begin() as connection:
        spoil = text("UPDATE request SET work = replace(work, '\"canny\"', '\"depth\"') WHERE id = :name")
        connection.execute(spoil, {"name": NAMES[2]})
    engine.dispose()
    claims = await ledger.claim("new", 9, 60)
    assert tuple(claim.work.request_id for claim in claims) == NAMES[:2] + NAMES[3:]
    status = await ledger.status(NAMES[2], "fal-ai/fooocus")
    assert status is not None
    assert status.outcome is Outcome.ERROR


def test_a_broken_row_of_today_is_told_by_its_own_error() -> None:
    """Not by what it lacks of the form that it never had."""
    sound = work("a")
    broken = sound.model_dump_json().replace(f'"steps":{sound.spec.steps}', '"steps":"many"')
    with pytest.raises(ValidationError) as caught:
        read_work(broken)
    assert [error["loc"] for error in caught.value.errors()] == [("spec", "steps")]


def test_a_row_that_is_no_json_is_told_so() -> None:
    with pytest.raises(ValidationError, match="Invalid JSON"):
        read_work("{")
