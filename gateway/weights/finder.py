"""From a client's word for weights to a file of this machine: fetched, checked and kept."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from weakref import WeakValueDictionary

from gateway.errors import ModelError, location
from gateway.files.base import Files
from gateway.images.fetch import DownloadFault, Fetcher, too_large
from gateway.weights.cache import Arriving, Joint, Remembered, WeightsCache, locked, making_room
from gateway.weights.settings import WeightsSettings
from gateway.weights.sharing import WeightsShare
from gateway.weights.sources import (
    SUFFIX,
    Address,
    Kind,
    Repository,
    Upload,
    host_of,
    hub_address,
    not_known,
    source_of,
)

MOST_LISTED = 10  # files of a repository that a message names
MAX_LISTING = 8 * 1024 * 1024  # bytes of what a hub tells of a repository
PREFERRED = "pytorch_lora_weights.safetensors"  # what training tools call the one that counts

logger = logging.getLogger("fooocus.weights")

Bringing = Callable[[Arriving, str | None], Awaitable[tuple[str, str | None] | None]]
"""Writes the content of an address: its name and ETag, or None where that of the given ETag is still the same."""


class WeightsFinder:
    """Finds weights that clients name and this service has no file of. Belongs to one event loop.

    check: raises ValueError, in words that follow the file's name, for what is no whole safetensors file. share: where
    what came is put for other nodes; None where there is one, or all see one cache. clock: Unix seconds.
    """

    def __init__(
        self,
        settings: WeightsSettings,
        cache: WeightsCache,
        fetcher: Fetcher,
        files: Files,
        check: Callable[[Path], object],
        share: WeightsShare | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._cache, self._fetcher, self._files = settings, cache, fetcher, files
        self._check, self._share, self._clock = check, share, clock
        self._joint: Joint[Path] = Joint()
        self._listing: Joint[str] = Joint()
        self._room = asyncio.Semaphore(settings.at_once)
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def find(self, word: str, field: str, kind: Kind, owner: str = "") -> Path:
        """The safetensors file that `word` means, named by its sha256. It is in use from now on.

        field: where in the client's input it stands, dotted. owner: the id of the caller's key; empty where the service
        asks for none. Raises ModelError with it: `feature_not_supported` for
        what is not known or no safetensors file, `file_download_error` and `file_too_large`; and PlatformError where
        this machine cannot keep it now.
        """
        try:
            with making_room():
                return await self._find(word, kind, owner)
        except ModelError as fault:
            raise ModelError(fault.type, fault.msg, location(field), status=fault.status, ctx=fault.ctx) from fault

    async def _find(self, word: str, kind: Kind, owner: str) -> Path:
        match source_of(word, self._settings.hub):
            case Address(url):
                path = await self._fetched(url, owner)
            case Repository(name):
                path = await self._of_repository(name, owner)
            case Upload() as upload:
                path = await self._uploaded(upload, owner)
            case _:
                raise ModelError("feature_not_supported", not_known(kind))
        if self._share is not None:
            await self._share.put(path)
        return path

    async def _fetched(self, url: str, owner: str) -> Path:
        async def save(arriving: Arriving, etag: str | None) -> tuple[str, str | None] | None:
            try:
                saved = await self._fetcher.save(url, arriving, self._settings.max_bytes, etag=etag)
            except DownloadFault as fault:
                raise self._explained(fault, url) from fault
            return None if saved is None else (saved.name, saved.etag)

        return await self._remembered(url, save, owner)

    async def _uploaded(self, upload: Upload, owner: str) -> Path:
        async def copy(arriving: Arriving, _: str | None) -> tuple[str, str | None]:
            info = await self._files.stat(upload.key)
            if info is None:
                raise ModelError("file_download_error", "The uploaded file is no longer stored.")
            if info.size > self._settings.max_bytes:
                raise too_large(self._settings.max_bytes, "")
            async for piece in self._files.open(upload.key, 0, info.size):
                await asyncio.to_thread(arriving.write, piece)
            return info.terms.file_name or "that was uploaded", None

        return await self._remembered(f"{upload.key}#{upload.etag}", copy, owner, changes=False)

    async def _of_repository(self, name: str, owner: str) -> Path:
        address = f"{self._settings.hub}/{name}"
        known = await asyncio.to_thread(self._cache.recall, address)
        hit = self._hit(known)
        if hit is not None:
            return hit
        try:
            chosen = await self._listing.run(name, lambda: self._chosen(name))
            url = hub_address(self._settings.hub, name, chosen)
        except DownloadFault as fault:
            if known is None or not fault.passing:
                raise
            return known[1]
        path = await self._fetched(url, owner)
        size = (await asyncio.to_thread(path.stat)).st_size
        await asyncio.to_thread(self._cache.remember, address, Remembered(path.name, size, self._clock()))
        return path

    async def _remembered(self, address: str, bring: Bringing, owner: str, *, changes: bool = True) -> Path:
        """The content of an address: what is remembered of it while that counts, and else brought in the owner's share.

        changes: whether it may have another content later.
        """
        hit = self._hit(await asyncio.to_thread(self._cache.recall, address), changes)
        if hit is not None:
            return hit
        async with self._share_of(owner):  # before the others who ask for it can come to wait for this one
            return await self._joint.run(address, lambda: self._brought_by_one(address, bring, changes))

    async def _brought_by_one(self, address: str, bring: Bringing, changes: bool) -> Path:
        async with locked(self._cache.lock_of(address)):
            known = await asyncio.to_thread(self._cache.recall, address)  # somebody may have been first
            hit = self._hit(known, changes)
            if hit is not None:
                return hit
            async with self._room:
                return await self._brought(address, bring, known)

    def _share_of(self, owner: str) -> asyncio.Semaphore:
        """An owner has half of the fetches at most: slow addresses of one leave room for those of others."""
        most = self._settings.at_once
        return self._shares.setdefault(owner, asyncio.Semaphore(max(1, most // 2) if owner else most))

    def _hit(self, known: tuple[Remembered, Path] | None, changes: bool = True) -> Path | None:
        """The file of what is remembered, which is counted, where that is not too long ago for what changes."""
        if known is None or (changes and self._clock() - known[0].checked_at >= self._settings.remember_s):
            return None
        self._cache.counts.hits += 1
        return known[1]

    async def _brought(self, address: str, bring: Bringing, known: tuple[Remembered, Path] | None) -> Path:
        self._cache.counts.misses += 1
        etag = None if known is None else known[0].etag
        with self._cache.arriving() as arriving:
            try:
                told = await bring(arriving, etag)
            except DownloadFault as fault:
                if known is None or not fault.passing:
                    raise
                logger.warning(
                    "%s cannot tell whether weights have changed; those of before are used", host_of(address)
                )
                return known[1]
            if told is None and known is not None:
                path, sha256, size = known[1], known[0].sha256, known[0].size
            else:
                name, etag = told or ("", None)
                await asyncio.to_thread(arriving.sync)
                await self._checked(arriving.path, name)
                path = await asyncio.to_thread(self._cache.keep, arriving)
                sha256, size = arriving.sha256, arriving.size
        await asyncio.to_thread(self._cache.remember, address, Remembered(sha256, size, self._clock(), etag))
        return path

    async def _checked(self, path: Path, name: str) -> None:
        try:
            await asyncio.to_thread(self._check, path)
        except ValueError as fault:
            told = f"The file {name!r}" if name else "The file"
            msg = f"{told} {fault}. Weights are read from whole safetensors files alone."
            raise ModelError("feature_not_supported", msg) from fault

    async def _chosen(self, repository: str) -> str:
        """The path of the file of a repository that is meant where none is named."""
        url = f"{self._settings.hub}/api/models/{repository}"
        try:
            listing = json.loads(await self._fetcher.fetch(url, MAX_LISTING))
            paths = [str(each["rfilename"]) for each in listing["siblings"]]
        except DownloadFault as fault:
            raise self._explained(fault, url) from fault
        except (ValueError, LookupError, TypeError, RecursionError) as fault:
            msg = f"The hub tells nothing of the files of {repository}: name one of them, as {repository}/FILE{SUFFIX}."
            raise ModelError("file_download_error", msg) from fault
        files = [path for path in paths if path.endswith(SUFFIX)]
        if PREFERRED in files:
            return PREFERRED
        if len(files) == 1:
            return files[0]
        if not files:
            raise ModelError("file_download_error", f"The repository {repository} has no {SUFFIX} file.")
        more = f" and {len(files) - MOST_LISTED} more" if len(files) > MOST_LISTED else ""
        named = ", ".join(path[:100] for path in files[:MOST_LISTED]) + more
        msg = f"The repository {repository} has several files: name one of them, as {repository}/FILE: {named}."
        raise ModelError("file_download_error", msg)

    def _explained(self, fault: DownloadFault, url: str) -> DownloadFault:
        """A fault with what can be done about it, where something can."""
        if fault.answered not in (401, 403, 404):
            return fault
        origin = "/".join(url.split("/")[:3])
        why = f"its server answered {fault.answered}"
        if fault.answered != 404:
            why += (
                ": there is no such file, or the token that is set for its host does not open it"
                if origin in self._settings.tokens
                else ": there is no such file, or it asks for a login, which takes a token of the service's operator "
                f"(weights.tokens, for {host_of(url)})"
            )
        return DownloadFault(why, "", answered=fault.answered)
