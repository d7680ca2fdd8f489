"""What clients upload: who may, by a signed grant, and storing it whole or in parts that are joined in the end."""

import asyncio
import hashlib
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict

from gateway.errors import PlatformError
from gateway.files.base import FileInfo, Files, FileTerms, Part
from gateway.files.body import Received, spooled, too_large, type_of
from gateway.files.names import clean_name, suffix_of
from gateway.files.store import UNFINISHED_S, moment
from gateway.files.upload_quota import UploadAccount
from gateway.keys.base import Caller, Scope
from gateway.keys.tokens import Purpose, Tokens
from gateway.policy import Acl
from gateway.settings import GatewaySettings

WHOLE_S = 3600  # within which the content must begin to arrive


class Grant(BaseModel):
    """key: of the file. owner: the id of the API key in whose name; empty where the service is open. begun: Unix
    seconds. multipart: the content comes in parts, not whole. expires_in_s: from the end of the upload."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    owner: str
    begun: int
    multipart: bool
    file_name: str | None = None
    acl: Acl | None = None
    expires_in_s: int | None = None

    @property
    def id(self) -> str:
        return self.key.split("/")[1]

    @property
    def upload(self) -> str:
        """What the files store knows the parts by."""
        return f"{moment(self.begun)}/{self.id}"


class Grants:
    """Makes and reads grants. clock: Unix seconds."""

    def __init__(self, tokens: Tokens, clock: Callable[[], float] = time.time) -> None:
        self._tokens, self._clock = tokens, clock

    def make(
        self,
        owner: str,
        content_type: str,
        file_name: str,
        multipart: bool,
        acl: Acl | None = None,
        expires_in_s: int | None = None,
    ) -> Grant:
        """content_type, file_name: as the client declares them."""
        return Grant(
            key=f"uploads/{uuid.uuid4()}/file.{suffix_of(content_type, file_name)}",
            owner=owner,
            begun=int(self._clock()),
            multipart=multipart,
            file_name=clean_name(file_name),
            acl=acl,
            expires_in_s=expires_in_s,
        )

    def token(self, grant: Grant) -> str:
        lifetime_s = UNFINISHED_S if grant.multipart else WHOLE_S
        payload = grant.model_dump(mode="json", exclude_defaults=True)
        return self._tokens.seal(payload, Purpose.UPLOAD, lifetime_s)

    def read(self, token: str) -> Grant | None:
        """None for a token that is not ours or has run out."""
        payload = self._tokens.unseal(token, Purpose.UPLOAD)
        return None if payload is None else Grant.model_validate(payload)


MAX_PARTS = 10_000
_PIECE = 1024 * 1024


class Uploads:
    """Uploads under grants. The first content that a file gets stays: a repeated call answers the same.

    Parts lie in the files store itself, so that any replica can take the next one and a restart loses none. They are
    joined through this machine rather than by the bucket, whose own multipart uploads refuse parts under 5 MiB and want
    the content type, which is told by the content, before there is any. What is stored has its place in `account`
    before, and loses it when it could not be. clock: Unix seconds.
    """

    def __init__(
        self,
        files: Files,
        account: UploadAccount,
        tokens: Tokens,
        settings: GatewaySettings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.grants = Grants(tokens, clock)
        self._files, self._account, self._settings, self._clock = files, account, settings, clock

    @property
    def max_bytes(self) -> int:
        return self._settings.max_upload_bytes

    @property
    def folder(self) -> Path:
        """Where large bodies lie while they arrive."""
        return self._settings.data_dir

    async def whole(self, grant: Grant, body: Received) -> None:
        """Raises PlatformError: 409 where the file has other content already, 403 where its owner may have no other."""
        known = await self._files.stat(grant.key)
        if known is None:
            await self._save(grant, body, self._terms(grant))
        elif known.etag != body.sha256:
            raise PlatformError("bad_request", "This file has been uploaded already, with other content.", status=409)

    async def part(self, grant: Grant, number: int, body: Received) -> str:
        """The etag of the part. Raises PlatformError: 400 for a number out of range; as `UploadAccount.take_part`."""
        last = min(MAX_PARTS, self._settings.upload_parts_of_key)
        if not 1 <= number <= last:
            raise PlatformError("bad_request", f"Part numbers go from 1 to {last}.")
        if body.size == 0:
            raise PlatformError("bad_request", "The part is empty.")
        if await self._files.stat(grant.key) is None:
            earlier = await self._account.take_part(grant.key, grant.owner, number, body.size, grant.begun)
            try:
                await self._files.stage(grant.upload, number, body.file, body.sha256)
            except Exception:
                await self._account.give_back_part(grant.key, number, earlier)
                raise
        return body.sha256

    async def complete(self, grant: Grant, wanted: Sequence[tuple[int, str]]) -> None:
        """Join the parts. wanted: (number, etag) of each, in any order.

        Raises PlatformError (400) when they are not exactly the parts that were uploaded.
        """
        known = await self._files.stat(grant.key)
        if known is not None:
            return await self._tidy(grant, known)  # what a repeated call, or one that broke off, left
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
            terms = self._terms(grant)
            await self._files.save(grant.key, file, content_type, digest, terms)
        size = sum(part.size for part in parts)
        return await self._tidy(grant, FileInfo(grant.key, size, content_type, digest, terms))

    async def delete(self, key: str, caller: Caller) -> bool:
        """Whether there was such a file of the caller's, and it is gone now. Administrators may delete all.

        Raises ValueError for what is no key of the files store.
        """
        info = await self._files.stat(key)
        if info is None or (caller.key != info.terms.owner and Scope.ADMIN not in caller.scopes):
            return False
        await self._files.delete(key)
        await self._account.remove(key)
        again = await self._files.stat(key)
        if again is not None:  # somebody was storing it meanwhile, with the place that was given back
            await self._account.settle(again)
        return True

    async def _save(self, grant: Grant, body: Received, terms: FileTerms) -> None:
        taken = await self._account.take_file(grant.key, grant.owner, body.size, terms.expires_at)
        try:
            await self._files.save(grant.key, body.file, body.content_type, body.sha256, terms)
        except Exception:
            if taken and await self._files.stat(grant.key) is None:
                await self._account.remove(grant.key)
            raise
        if not await self._account.counts(grant.key):  # it was deleted while this was storing it again
            await self._account.settle(FileInfo(grant.key, body.size, body.content_type, body.sha256, terms))

    async def _tidy(self, grant: Grant, info: FileInfo) -> None:
        await self._files.unstage(grant.upload)
        await self._account.settle(info)

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
