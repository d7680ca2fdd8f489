"""Settings name the files store: the data folder, or a bucket with the credentials of boto3's own finding."""

from pathlib import Path

import pytest

from gateway.files.backends import LocalFiles, files_of
from gateway.files.base import Stored
from gateway.files.s3 import Bucket
from gateway.settings import GatewaySettings
from tests.gateway.files.s3_server import BUCKET, S3Server

KEY = "outputs/0f8fad5b-d9cb-469f-a165-70867728950e/0.png"


async def test_a_folder_unless_told_otherwise(tmp_path: Path) -> None:
    await files_of(GatewaySettings(data_dir=tmp_path)).put(KEY, b"picture", "image/png")
    assert await LocalFiles(tmp_path).get(KEY) == Stored(KEY, b"picture", "image/png")


async def test_a_bucket_that_settings_name(
    tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    url, endpoint = f"s3://{BUCKET}/from-settings", s3_server.endpoint_url
    files = files_of(GatewaySettings(data_dir=tmp_path, files_url=url, files_endpoint_url=endpoint))
    await files.put(KEY, b"picture", "image/png")
    assert await files.get(KEY) == Stored(KEY, b"picture", "image/png")
    assert await LocalFiles(tmp_path).get(KEY) is None


@pytest.mark.parametrize(
    ("url", "bucket"),
    [
        ("s3://one", Bucket("one")),
        ("s3://one/", Bucket("one")),
        ("s3://one/a/b", Bucket("one", "a/b/")),
        ("s3://one/a/b/", Bucket("one", "a/b/")),
    ],
)
def test_an_address_is_a_bucket_and_a_prefix(url: str, bucket: Bucket) -> None:
    assert Bucket.at(url) == bucket
