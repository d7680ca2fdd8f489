"""A place for bytes in a bucket that speaks S3."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from urllib3.exceptions import HTTPError

from gateway.files.blobs import AT_ONCE, Blob

_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_BEYOND = "InvalidRange"
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 2, 5  # of one attempt
_WHOLE = 8 * 1024 * 1024  # what is larger goes in parts, several at once


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where the bytes are. Credentials come from where boto3 usually finds them, never from here.

    prefix: empty, or a folder with a slash at its end. endpoint_url: of a server that is not Amazon's.
    """

    name: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None

    @classmethod
    def at(cls, url: str, endpoint_url: str | None = None, region: str | None = None) -> "Bucket":
        """url: `s3://bucket` or `s3://bucket/prefix`."""
        parts = urlsplit(url)
        prefix = parts.path.strip("/")
        return cls(parts.netloc, f"{prefix}/" if prefix else "", endpoint_url, region)


class S3Blobs:
    """`gateway.files.blobs.Blobs` in a bucket, their notes as metadata of the objects.

    An object is there at once or not at all, as S3 promises. It can be pickled; each process connects by itself.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def __reduce__(self) -> tuple[Any, ...]:
        return S3Blobs, (self._bucket,)

    @cached_property
    def _client(self) -> Any:
        bucket = self._bucket
        config = Config(
            # Together they end a call to a bucket that hangs in about ten seconds. Who has time tries again himself.
            retries={"mode": "standard", "total_max_attempts": 2},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            max_pool_connections=AT_ONCE,
            # servers that are not Amazon's know neither host names of buckets nor its newer checksums
            s3={"addressing_style": "path" if bucket.endpoint_url else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        session = boto3.session.Session()  # the default one is not for several threads
        return session.client("s3", endpoint_url=bucket.endpoint_url, region_name=bucket.region, config=config)

    def write(self, path: str, file: BinaryIO, notes: Mapping[str, str]) -> None:
        more = {"Metadata": dict(notes), "ContentType": notes.get("type", "application/octet-stream")}
        file.seek(0)
        head = file.read(_WHOLE + 1)
        with _reached():
            if len(head) <= _WHOLE:
                self._client.put_object(Body=head, **more, **self._named(path))
            else:
                file.seek(0)
                self._client.upload_fileobj(file, self._bucket.name, self._bucket.prefix + path, ExtraArgs=more)

    def read(self, path: str, start: int = 0, size: int | None = None) -> bytes | None:
        if size == 0:
            return b""
        end = "" if size is None else str(start + size - 1)
        part = {"Range": f"bytes={start}-{end}"} if start or size is not None else {}
        with _reached():
            try:
                content: bytes = self._client.get_object(**part, **self._named(path))["Body"].read()
                return content
            except ClientError as error:
                if _code(error) == _BEYOND:
                    return b""
                if _code(error) in _MISSING:
                    return None
                raise

    def stat(self, path: str) -> Blob | None:
        with _reached():
            try:
                found = self._client.head_object(**self._named(path))
            except ClientError as error:
                if _code(error) in _MISSING:
                    return None
                raise
            return Blob(found["ContentLength"], found["Metadata"])

    def delete(self, path: str) -> None:
        with _reached():
            self._client.delete_object(**self._named(path))

    def list(self, folder: str) -> Iterator[str]:
        prefix = self._bucket.prefix
        with _reached():
            named = {"Bucket": self._bucket.name, "Prefix": prefix + folder}
            for page in self._client.get_paginator("list_objects_v2").paginate(**named):
                for found in page.get("Contents", ()):
                    yield found["Key"].removeprefix(prefix)

    def _named(self, path: str) -> dict[str, str]:
        return {"Bucket": self._bucket.name, "Key": self._bucket.prefix + path}


@contextmanager
def _reached() -> Iterator[None]:
    """Whatever a bucket, or the way to it, has against a call is an OSError; a call that is wrong stays what it is."""
    try:
        yield
    except ParamValidationError:
        raise
    except (BotoCoreError, ClientError, Boto3Error, HTTPError) as error:
        raise OSError(f"the bucket did not do it: {error}") from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code"))
