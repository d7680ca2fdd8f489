"""Storing what clients upload: whole, or in parts that are joined in the end."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from gateway.errors import PlatformError
from gateway.files.base import Files, FileTerms, Part
from gateway.keys.tokens import Tokens
from gateway.settings import GatewaySettings
from gateway.uploads.grants import Grant, Grants
from gateway.uploads.receiving import Received, spooled, too_large, type_of

MAX_PARTS = 10_000
_PIECE = 1024 * 1024


class Uploads:
    """Uploads under grants. The first content that a file gets stays: a repeated call answers the same.

    Parts lie in the files store itself, so that any replica can take the next one and a restart loses none. They are
    joined through this machine rather than by the bucket, whose own multipart uploads refuse parts under 5 MiB and want
    the content type, which is told by the content, before there is any. clock: Unix seconds.
    """

    def __init__(
        self, files: Files, tokens: Tokens, settings: GatewaySettings, clock: Callable[[], float] = time.time
    ) -> None:
        self.grants = Grants(tokens, clock)
        self._files, self._settings, self._clock = files, settings, clock

    @property
    def max_bytes(self) -> int:
        return self._settings.max_upload_bytes

    @property
    def folder(self) -> Path:
        """Where large bodies lie while they arrive."""
        return self._settings.data_dir

    async def whole(self, grant: Grant, body: Received) -> None:
        """Raises PlatformError (409) where the file has another content already."""
        known = await self._files.stat(grant.key)
        if known is None:
            await self._files.save(grant.key, body.file, body.content_type, body.sha256, self._terms(grant))
        elif known.etag != body.sha256:
            raise PlatformError("bad_request", "This file has been uploaded already, with other content.", status=409)

    async def part(self, grant: Grant, number: int, body: Received) -> str:
        """The etag of the part. Raises PlatformError: 400 for a number out of range, 413 when the parts so far are too
        large together."""
        if not 1 <= number <= MAX_PARTS:
            raise PlatformError("bad_request", f"Part numbers go from 1 to {MAX_PARTS}.")
        if body.size == 0:
            raise PlatformError("bad_request", "The part is empty.")
        if await self._files.stat(grant.key) is None:
            others = [part for part in await self._files.staged(grant.upload) if part.number != number]
            if sum(part.size for part in others) + body.size > self.max_bytes:
                raise too_large(self.max_bytes)
            await self._files.stage(grant.upload, number, body.file, body.sha256)
        return body.sha256

    async def complete(self, grant: Grant, wanted: Sequence[tuple[int, str]]) -> None:
        """Join the parts. wanted: (number, etag) of each, in any order.

        Raises PlatformError (400) when they are not exactly the parts that were uploaded.
        """
        if await self._files.stat(grant.key) is not None:
            return await self._files.unstage(grant.upload)  # what a repeated call, or one that broke off, left
        parts = await self._files.staged(grant.upload)
        _check(parts, wanted)
        if sum(part.size for part in parts) > self.max_bytes:
            raise too_large(self.max_bytes)
        with spooled(self.folder) as file:
            if not await self._files.join(grant.upload, parts, file):
                if await self._files.stat(grant.key) is not None:  # somebody else has joined them meanwhile
                    return None
                raise PlatformError("bad_request", "Some parts are no longer there; upload the file again.")
            content_type, digest = await asyncio.to_thread(_told, file)
            await self._files.save(grant.key, file, content_type, digest, self._terms(grant))
        return await self._files.unstage(grant.upload)

    def _terms(self, grant: Grant) -> FileTerms:
        expires_at = None if grant.expires_in_s is None else self._clock() + grant.expires_in_s
        return FileTerms(grant.owner, grant.acl, expires_at, grant.file_name)


def _check(parts: Sequence[Part], wanted: Sequence[tuple[int, str]]) -> None:
    """Every part once, with its etag, and no gap between them."""
    there = [(part.number, part.etag) for part in parts]
    asked = sorted((number, etag.strip('"')) for number, etag in wanted)
    if not asked or asked != there:
        raise PlatformError("bad_request", "The list of parts is not that of the parts that were uploaded.")
    if [number for number, _ in asked] != list(range(1, len(asked) + 1)):
        raise PlatformError("bad_request", "The part numbers have a gap.")


def _told(file: BinaryIO) -> tuple[str, str]:
    """(content type, SHA-256 in hex)."""
    file.seek(0)
    content_type = type_of(file.read(64))
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(_PIECE):
        digest.update(piece)
    return content_type, digest.hexdigest()
