"""The files store on each place for bytes: a folder, and a bucket of a real server."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.files.backends import FolderBlobs
from gateway.files.blobs import Blobs
from gateway.files.s3 import Bucket, S3Blobs
from gateway.files.store import FileStore
from tests.gateway.fakes import Clock
from tests.gateway.files.s3_server import BUCKET, S3Server, serving


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with serving() as server:
        yield server


@pytest.fixture(params=["folder", "bucket"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    if request.param == "folder":
        return FolderBlobs(tmp_path / "files")
    server: S3Server = request.getfixturevalue("s3_server")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return S3Blobs(Bucket.at(f"s3://{BUCKET}/{uuid.uuid4()}/files", server.endpoint_url))


@pytest.fixture
def files(blobs: Blobs, clock: Clock) -> FileStore:
    return FileStore(blobs, clock)
