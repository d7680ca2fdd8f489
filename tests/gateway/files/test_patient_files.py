"""A picture that is drawn waits for its store: as long as it is told to, quietly, and not a moment after a cancel."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import StoreUnavailable
from gateway.files.availability import PatientFiles
from gateway.files.base import FileTerms, Stored
from gateway.files.store import FileStore
from tests.gateway.fakes import until
from tests.gateway.files.away import AwayBlobs

KEY = "outputs/0f8fad5b-d9cb-469f-a165-70867728950e/0.png"
PICTURE = (KEY, b"picture", "image/png")


@pytest.fixture
def blobs(tmp_path: Path) -> AwayBlobs:
    blobs = AwayBlobs(tmp_path)
    blobs.take_away()
    return blobs


def patient(blobs: AwayBlobs, patience_s: float) -> PatientFiles:
    return PatientFiles(FileStore(blobs), patience_s, logging.getLogger("fooocus.test"), last_pause_s=0.02)


async def refused_often(blobs: AwayBlobs) -> None:
    async def often() -> bool:
        return blobs.refusals > 5

    await until(often)


async def test_it_is_stored_when_the_store_is_back(blobs: AwayBlobs, caplog: pytest.LogCaptureFixture) -> None:
    putting = asyncio.create_task(patient(blobs, 60).put(*PICTURE, FileTerms))
    await refused_often(blobs)
    blobs.give_back()
    await putting
    assert await FileStore(blobs).get(KEY) == Stored(*PICTURE)
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1
    assert "No space left" in said[0].getMessage()
    assert said[0].exc_info is None


async def test_it_expires_from_its_storing(blobs: AwayBlobs) -> None:
    ends: Iterator[float] = iter(range(2_000_000_000, 2_000_001_000))
    putting = asyncio.create_task(patient(blobs, 60).put(*PICTURE, lambda: FileTerms(expires_at=next(ends))))
    await refused_often(blobs)
    blobs.give_back()
    await putting
    info = await FileStore(blobs).stat(KEY)
    assert info is not None
    assert info.terms.expires_at is not None
    assert info.terms.expires_at == next(ends) - 1


@pytest.mark.parametrize("patience_s", [0, 0.2])
async def test_patience_ends(blobs: AwayBlobs, patience_s: float) -> None:
    with pytest.raises(StoreUnavailable):
        await patient(blobs, patience_s).put(*PICTURE, FileTerms)
    assert (blobs.refusals > 1) == (patience_s > 0)


async def test_a_cancel_ends_it_at_once(blobs: AwayBlobs) -> None:
    putting = asyncio.create_task(patient(blobs, 60).put(*PICTURE, FileTerms))
    await refused_often(blobs)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    refusals = blobs.refusals
    blobs.give_back()
    await asyncio.sleep(0.1)
    assert await FileStore(blobs).get(KEY) is None
    assert refusals < 100
