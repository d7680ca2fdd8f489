"""fal's uploads: routes that say where to send a file and with what token, and the CDN (fal-protocol 6)."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.errors import PlatformError
from gateway.files.base import FILES
from gateway.files.body import Received, received
from gateway.files.uploads import MAX_PARTS, Grant, Uploads
from gateway.http import bodies
from gateway.http.auth import caller
from gateway.http.bodies import MAX_FILE_NAME
from gateway.http.hosts import cdn_root
from gateway.http.parts import Parts
from gateway.http.request_body import chunks, read_body
from gateway.http.routes import Route
from gateway.keys.base import Scope
from gateway.keys.tokens import LONGEST_S, Purpose, Tokens
from gateway.policy import OF_UPLOADS, lifecycle_of
from gateway.settings import GatewaySettings
from gateway.validation import whole_number

UPLOAD = "/upload/"
NOT_KEPT: Mapping[str, str] = {"cache-control": "no-store"}


def storage_routes(parts: Parts, tokens: Tokens, uploads: Uploads) -> list[Route]:
    settings = parts.settings

    async def initiate(request: Request) -> Response:
        return await _initiate(request, multipart=False)

    async def initiate_multipart(request: Request) -> Response:
        return await _initiate(request, multipart=True)

    async def _initiate(request: Request, multipart: bool) -> Response:
        # the query's storage_type names stores of fal's; there is one here
        asked = await read_body(request, bodies.UploadRequest)
        grant = granted(request, uploads, settings, asked.content_type or "", asked.file_name or "", multipart)
        root = cdn_root(request, settings.public_url)
        address = bodies.UploadAddress(upload_url=signed_url(root, uploads, grant), file_url=file_url(root, grant))
        return JSONResponse(address, headers=NOT_KEPT)

    async def token(request: Request) -> Response:
        expires_at = datetime.now(UTC) + timedelta(seconds=LONGEST_S)
        body: bodies.StorageToken = {
            "token": tokens.issue(caller(request).key, Purpose.STORAGE, LONGEST_S),
            "token_type": "Bearer",
            "base_url": cdn_root(request, settings.public_url),
            "expires_at": expires_at.isoformat(timespec="seconds"),  # with +00:00: a Z is not read by Python 3.10
        }
        return JSONResponse(body, headers=NOT_KEPT)

    return [
        Route("/rest/storage/upload/initiate", initiate, methods=["POST"], needs=Scope.STORAGE),
        Route("/rest/storage/upload/initiate-multipart", initiate_multipart, methods=["POST"], needs=Scope.STORAGE),
        Route("/rest/storage/auth/token", token, methods=["POST"], needs=Scope.STORAGE),
    ]


def granted(
    request: Request, uploads: Uploads, settings: GatewaySettings, content_type: str, file_name: str, multipart: bool
) -> Grant:
    """What the caller may upload, under the lifecycle of its headers. content_type, file_name: the client's words."""
    lifecycle = lifecycle_of(request.headers, OF_UPLOADS)
    return uploads.grants.make(
        caller(request).key,
        content_type,
        file_name,
        multipart,
        lifecycle.initial_acl,
        lifecycle.expires_in_s(settings.uploads_expire_s),
    )


def signed_url(root: str, uploads: Uploads, grant: Grant) -> str:
    """Where the content goes. root: as `file_url` has it."""
    # The client sends the content without its key, and puts the numbers of parts between path and query.
    return f"{root}{UPLOAD}{grant.id}?token={uploads.grants.token(grant)}"


def file_url(root: str, grant: Grant) -> str:
    """root: of the CDN, as the client reaches it."""
    return f"{root}{FILES}{grant.key}"


MAX_LIST_BYTES = 200 * MAX_PARTS


def cdn_routes(parts: Parts, uploads: Uploads) -> list[Route]:
    cdn = _Cdn(parts, uploads)
    signed = f"/cdn{UPLOAD}{{id}}"  # for one file and a short time, and so without a key
    files = f"/cdn{FILES}"
    begun = f"{files}{{key:path}}/multipart/{{token}}"
    by_key: dict[str, Any] = {"needs": Scope.STORAGE, "token": Purpose.STORAGE}
    return [
        Route(signed, cdn.whole, methods=["PUT"], needs=None),
        Route(f"{signed}/complete", cdn.complete, methods=["POST"], needs=None),
        Route(f"{signed}/{{number}}", cdn.part, methods=["PUT"], needs=None),
        Route(f"{files}{{key:path}}", cdn.delete, methods=["DELETE"], **by_key),
        Route(f"{files}upload", cdn.upload, methods=["POST"], **by_key),
        Route(f"{files}upload/multipart", cdn.begin, methods=["POST"], **by_key),
        Route(f"{begun}/complete", cdn.complete, methods=["POST"], **by_key),
        Route(f"{begun}/{{number}}", cdn.part, methods=["PUT"], **by_key),
    ]


class _Cdn:
    def __init__(self, parts: Parts, uploads: Uploads) -> None:
        self._parts, self._uploads = parts, uploads

    async def whole(self, request: Request) -> Response:
        grant = await self._signed(request, multipart=False)
        await self._store(request, grant)
        return JSONResponse(bodies.FileUrl(file_url=self._url(request, grant)))

    async def upload(self, request: Request) -> Response:
        grant = self._new(request, multipart=False)
        await self._store(request, grant)
        return JSONResponse(bodies.AccessUrl(access_url=self._url(request, grant)))

    async def begin(self, request: Request) -> Response:
        grant = self._new(request, multipart=True)
        token = self._uploads.grants.token(grant)
        return JSONResponse(bodies.BegunUpload(access_url=self._url(request, grant), uploadId=token), headers=NOT_KEPT)

    async def part(self, request: Request) -> Response:
        grant = await self._signed(request, multipart=True)
        number = whole_number(request.path_params["number"]) or 0
        async with self._received(request, grant) as body:
            etag = await self._uploads.part(grant, number, body)
        # JavaScript reads the body, Python the header
        return JSONResponse(bodies.UploadedPart(partNumber=number, etag=etag), headers={"etag": f'"{etag}"'})

    async def complete(self, request: Request) -> Response:
        grant = await self._signed(request, multipart=True)
        asked = await read_body(request, bodies.UploadedParts, MAX_LIST_BYTES, grant.owner)
        await self._uploads.complete(grant, [(part["partNumber"], part["etag"]) for part in asked.parts])
        url = self._url(request, grant)
        return JSONResponse(bodies.CompletedUpload(access_url=url, file_url=url))

    async def delete(self, request: Request) -> Response:
        key = request.path_params["key"]
        try:
            # what was produced goes with its request
            deleted = key.startswith("uploads/") and await self._uploads.delete(key, caller(request))
        except ValueError:
            deleted = False
        if not deleted:
            raise PlatformError("bad_request", "File not found", status=404)
        return JSONResponse(bodies.FileDeletion(deleted=True))

    async def _store(self, request: Request, grant: Grant) -> None:
        async with self._received(request, grant) as body:
            await self._uploads.whole(grant, body)

    def _received(self, request: Request, grant: Grant) -> AbstractAsyncContextManager[Received]:
        # a signed address is called without a key: the body is of whoever may upload there
        timeout_s = self._parts.settings.upload_timeout_s
        return received(chunks(request, self._uploads.max_bytes, grant.owner, timeout_s), self._uploads.folder)

    def _new(self, request: Request, multipart: bool) -> Grant:
        content_type = request.headers.get("content-type", "")[:MAX_FILE_NAME]
        file_name = _in_utf8(request.headers.get("x-fal-file-name", ""))[:MAX_FILE_NAME]
        return granted(request, self._uploads, self._parts.settings, content_type, file_name, multipart)

    async def _signed(self, request: Request, multipart: bool) -> Grant:
        """The grant that the call shows, in its query or its path. Raises PlatformError for one that is not for it."""
        named = request.path_params
        grant = self._uploads.grants.read(named.get("token") or request.query_params.get("token", ""))
        if grant is None or grant.multipart is not multipart:
            raise PlatformError("forbidden", "The address of this upload is not valid or has expired.", status=403)
        if "id" in named:
            fits = named["id"] == grant.id
        else:
            fits = named["key"] == grant.key and caller(request).key == grant.owner
        if not fits:
            raise PlatformError("forbidden", "The address of this upload is for another file.", status=403)
        keys = self._parts.keys
        if keys is not None and await keys.find(grant.owner) is None:
            raise PlatformError("forbidden", "The key of this upload no longer counts.", status=403)
        return grant

    def _url(self, request: Request, grant: Grant) -> str:
        return file_url(cdn_root(request, self._parts.settings.public_url), grant)


def _in_utf8(header: str) -> str:
    """A header's text, which came as bytes of UTF-8; of Latin-1 where it is none."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header
