"""The files store on each place for bytes: a folder, and a bucket of a real server."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.files.backends import FolderBlobs
from gateway.files.blobs import Blobs
from gateway.files.s3 import Bucket, S3Blobs
from gateway.files.store import FileStore
from tests.gateway.files.s3_server import BUCKET, S3Server, serving


class Clock:
    """Unix seconds, as a test sets them."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


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
