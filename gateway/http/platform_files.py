"""fal's platform routes for files: signed addresses, and who may read a file (api.fal.ai, `/v1/storage/files`)."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.errors import PlatformError
from gateway.files.base import FileInfo, Files
from gateway.files.body import spooled
from gateway.http import bodies
from gateway.http.auth import caller
from gateway.http.parts import Parts
from gateway.http.request_body import read_body
from gateway.http.routes import Route
from gateway.http.submission import own_files
from gateway.keys.base import Keys, Scope
from gateway.keys.tokens import Purpose, Tokens
from gateway.policy import Acl, AclRule, FilesAccess

Handler = Callable[[Request], Awaitable[Response]]

_TYPES: Mapping[int, str] = MappingProxyType(
    {400: "validation_error", 401: "authorization_error", 403: "authorization_error", 404: "not_found"}
)


def in_platform_shape(handler: Handler) -> Handler:
    """`handler`, whose PlatformErrors are also told as fal's platform routes tell theirs: under `error`."""

    async def handled(request: Request) -> Response:
        try:
            return await handler(request)
        except PlatformError as fault:
            told = bodies.TypedFault(type=_TYPES.get(fault.status, "server_error"), message=fault.detail)
            body: bodies.PlatformFault = {**fault.body(), "error": told}
            return JSONResponse(body, fault.status, fault.headers())

    return handled


FILES_ROOT = "/api/v1/storage/files"
IDENTITY = "identity"  # the parameter of a signed address
MAX_URL = 2048  # characters


def platform_file_routes(parts: Parts, tokens: Tokens) -> list[Route]:
    files, access, keys = parts.files, parts.settings.files_access, parts.keys

    async def sign(request: Request) -> Response:
        url, info = await _owned(request, parts)
        asked = await read_body(request, bodies.Signing)
        identity = tokens.seal({"file": info.key, "by": caller(request).key}, Purpose.FILE, asked.expiration_seconds)
        address = bodies.SignedAddress(signed_url=f"{url}?{IDENTITY}={identity}")
        return JSONResponse(address, headers={"cache-control": "no-store"})

    async def get(request: Request) -> Response:
        _, info = await _owned(request, parts)
        return JSONResponse(_told(info.terms.acl, access))

    async def put(request: Request) -> Response:
        _, info = await _owned(request, parts)
        asked = await read_body(request, bodies.NewFileAcl)
        acl = Acl(default=asked.default, rules=tuple([rule for rule in asked.rules if await _is_known(rule, keys)]))
        await _write(files, info, acl, parts.settings.data_dir)
        return JSONResponse(_told(acl, access))

    acl_path = f"{FILES_ROOT}/acl"
    return [
        Route(f"{FILES_ROOT}/sign", in_platform_shape(sign), methods=["POST"], needs=Scope.STORAGE),
        Route(acl_path, in_platform_shape(get), methods=["GET"], needs=Scope.STORAGE),
        Route(acl_path, in_platform_shape(put), methods=["PUT"], needs=Scope.STORAGE),
    ]


async def signed(request: Request, key: str, tokens: Tokens, keys: Keys | None) -> bool:
    """Whether the address of this call is signed for the file `key`, by somebody who still counts."""
    payload = tokens.unseal(request.query_params.get(IDENTITY, ""), Purpose.FILE)
    if payload is None or payload["file"] != key:
        return False
    return keys is None or await keys.find(payload["by"]) is not None


async def _owned(request: Request, parts: Parts) -> tuple[str, FileInfo]:
    """The file that `url` names, and that address. Raises PlatformError for one that is not the caller's own."""
    url, who = request.query_params.get("url", ""), caller(request)
    if not url or len(url) > MAX_URL or "?" in url or "#" in url:
        raise PlatformError("bad_request", "url must be the address of a file of this service, without a query.")
    key = own_files(request, parts).key_of(url)
    info = None if key is None else await parts.files.stat(key)
    if info is None or (info.terms.owner != who.key and Scope.ADMIN not in who.scopes):
        raise PlatformError("bad_request", "File not found", status=404)
    return url, info


async def _is_known(rule: AclRule, keys: Keys | None) -> bool:
    return keys is None or await keys.find(rule.user) is not None


async def _write(files: Files, info: FileInfo, acl: Acl, folder: Path) -> None:
    # what is kept with a file is written with its content, in a folder and in a bucket alike
    with spooled(folder) as file:
        async for piece in files.open(info.key, 0, info.size):
            await asyncio.to_thread(file.write, piece)
        if file.tell() != info.size:
            raise PlatformError("bad_request", "File not found", status=404)
        file.seek(0)
        await files.save(info.key, file, info.content_type, info.etag, replace(info.terms, acl=acl))


def _told(acl: Acl | None, access: FilesAccess) -> dict[str, Any]:
    """As it acts: where the service keeps files to their owners, `allow` opens none to everybody."""
    acl = acl or Acl()
    default = "hide" if access == "key" and acl.default == "allow" else acl.default
    return bodies.FileAcl(default=default, rules=acl.rules).model_dump()
