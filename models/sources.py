"""Where files are pulled from: a model hub, a folder, or a prefix of an S3 bucket."""

import io
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import boto3
import httpx2
from botocore.exceptions import BotoCoreError, ClientError
from huggingface_hub import HfFileMetadata, constants, get_hf_file_metadata, get_token, hf_hub_url
from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.file_download import http_get

from models.catalogue import Entry
from models.errors import ToolFault

CHUNK = 2**22
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Found:
    """A file at its source. origin: repository@revision:path, or where it lies. sha256: where the source states it."""

    origin: str
    revision: str | None
    size: int
    sha256: str | None


class Source(Protocol):
    def find(self, entry: Entry, revision: str | None) -> Found:
        """Where the file lies and what it is. Raises ToolFault when it is not there or may not be had."""

    def fetch(self, entry: Entry, found: Found, into: Path, stop: threading.Event) -> None:
        """Bring its bytes to `into`, which may have the first of them. Raises ToolFault; Stopped when `stop` is set."""


class Stopped(Exception):
    """Another file's fault, or the user, has stopped this one."""


def open_source(place: str) -> Source:
    """`hub`, `s3://bucket/prefix` or a folder. Raises ToolFault when there is no such folder."""
    if place == "hub":
        return HubSource()
    if place.startswith("s3://"):
        parts = urlsplit(place)
        if not parts.netloc:
            raise ToolFault(f"--from {place}: it names no bucket; s3://BUCKET/PREFIX does.")
        return BucketSource(parts.netloc, parts.path.strip("/"))
    if not Path(place).is_dir():
        raise ToolFault(f"--from {place}: there is no such folder.")
    return FolderSource(Path(place).resolve())


class HubSource:
    """A model hub, by `huggingface_hub` and its environment: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE.

    Its own download starts a file anew after its process has ended, so here it is given the file to go on with.
    """

    def __init__(self) -> None:
        logging.getLogger("huggingface_hub").setLevel(
            logging.ERROR
        )  # each attempt of several is no news: the last one's fault is told
        self._endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT

    def find(self, entry: Entry, revision: str | None) -> Found:
        if entry.repository is None:
            raise ToolFault(
                f"{entry.file} lies on no hub ({entry.elsewhere}): fetch it yourself and pull {entry.name} "
                "with --from FOLDER."
            )
        found = self._metadata(entry, revision or "main")
        if not found.commit_hash or found.size is None:
            raise ToolFault(f"{self._endpoint} is no model hub: it does not say which revision {entry.file} is of.")
        stated = found.etag if found.etag and _SHA256.fullmatch(found.etag) else None  # else a hash of git's
        return Found(f"{entry.repository}@{found.commit_hash}:{entry.path}", found.commit_hash, found.size, stated)

    def fetch(self, entry: Entry, found: Found, into: Path, stop: threading.Event) -> None:
        at = self._metadata(entry, found.revision or "main")  # anew: its address may hold for minutes only
        own = urlsplit(at.location).netloc == urlsplit(self._endpoint).netloc  # a token is the hub's business alone
        token = get_token() if own else None
        headers = {"authorization": f"Bearer {token}"} if token else {}
        with self._told(entry), _Stoppable(into, found.size, stop) as file:
            http_get(
                at.location,
                file,
                resume_size=file.tell(),
                headers=headers,
                expected_size=found.size,
                displayed_filename=entry.file,
            )

    def _metadata(self, entry: Entry, revision: str) -> HfFileMetadata:
        url = hf_hub_url(entry.repository or "", entry.path or "", revision=revision, endpoint=self._endpoint)
        with self._told(entry):
            return get_hf_file_metadata(url, endpoint=self._endpoint)

    @contextmanager
    def _told(self, entry: Entry) -> Iterator[None]:
        """Say in a sentence what the hub's client raises."""
        what = f"{entry.file} of {entry.repository}"
        try:
            yield
        except OfflineModeIsEnabled as fault:
            raise ToolFault(
                f"HF_HUB_OFFLINE is set, so {what} cannot be fetched: unset it, or pull with --from FOLDER."
            ) from fault
        except HfHubHTTPError as fault:
            status = fault.response.status_code
            if status in (401, 403):
                why = f"set HF_TOKEN to a token that may read it, after its terms are accepted at {self._endpoint}"
                raise ToolFault(f"The hub refuses {what} ({status}): {why}/{entry.repository}.") from fault
            if status == 404:
                raise ToolFault(f"The hub at {self._endpoint} has no {what} (404).") from fault
            raise ToolFault(f"The hub at {self._endpoint} answers {status} for {what}; try again later.") from fault
        except FileMetadataError as fault:
            raise ToolFault(f"{self._endpoint} is no model hub: it says nothing of {what}.") from fault
        except httpx2.HTTPError as fault:
            why = str(fault) or type(fault).__name__
            raise ToolFault(
                f"The hub at {self._endpoint} cannot be reached for {what} ({why}); the same command goes on."
            ) from fault


class FolderSource:
    """A folder that has the files: in REPOSITORY/PATH, in PATH, or beside each other by their names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, entry: Entry, revision: str | None) -> Found:
        for place in _places(entry):
            path = self._folder / place
            if path.is_file():
                return Found(str(path), None, path.stat().st_size, None)
        raise ToolFault(f"{self._folder} has no {entry.file}; looked for {', '.join(_places(entry))}.")

    def fetch(self, entry: Entry, found: Found, into: Path, stop: threading.Event) -> None:
        into.unlink(missing_ok=True)  # nothing says that the file is still the one of which some is there
        with Path(found.origin).open("rb") as source, _Stoppable(into, found.size, stop) as file:
            while chunk := source.read(CHUNK):
                file.write(chunk)


class BucketSource:
    """A prefix in an S3 bucket, laid out as a folder would be, by boto3 and its environment."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket, self._prefix = bucket, prefix
        self._client: Any = boto3.session.Session().client("s3")

    def find(self, entry: Entry, revision: str | None) -> Found:
        for place in _places(entry):
            key = f"{self._prefix}/{place}" if self._prefix else place
            with self._told(entry):
                try:
                    head = self._client.head_object(Bucket=self._bucket, Key=key)
                except ClientError as fault:
                    if fault.response["Error"]["Code"] in ("404", "NoSuchKey"):
                        continue
                    raise
            return Found(f"s3://{self._bucket}/{key}", head["ETag"], head["ContentLength"], None)
        raise ToolFault(f"s3://{self._bucket}/{self._prefix} has no {entry.file}.")

    def fetch(self, entry: Entry, found: Found, into: Path, stop: threading.Event) -> None:
        key = found.origin.removeprefix(f"s3://{self._bucket}/")
        with self._told(entry), _Stoppable(into, found.size, stop) as file:
            if file.tell() == found.size:
                return
            answer = self._client.get_object(
                Bucket=self._bucket, Key=key, Range=f"bytes={file.tell()}-", IfMatch=found.revision
            )
            for chunk in answer["Body"].iter_chunks(CHUNK):
                file.write(chunk)

    @contextmanager
    def _told(self, entry: Entry) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as fault:
            raise ToolFault(f"{entry.file} cannot be fetched from the bucket {self._bucket}: {fault}.") from fault


def _places(entry: Entry) -> tuple[str, ...]:
    """Where a folder or a bucket may have it, the most exact place first."""
    full = (f"{entry.repository}/{entry.path}",) if entry.repository else ()
    return tuple(dict.fromkeys((*full, *((entry.path,) if entry.path else ()), entry.file)))


class _Stoppable(io.BufferedWriter):
    """The end of a file, to be written on until `stop` is set. One that is longer than it may be is written anew."""

    def __init__(self, path: Path, size: int, stop: threading.Event) -> None:
        if path.exists() and path.stat().st_size > size:
            path.unlink()
        super().__init__(io.FileIO(path, "ab"))
        self._stop = stop

    def write(self, chunk: Any, /) -> int:
        if self._stop.is_set():
            raise Stopped
        return super().write(chunk)
