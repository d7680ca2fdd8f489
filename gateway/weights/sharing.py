"""Weights in the files store, by which the nodes of a service that has several hand them to each other."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from gateway.files.base import Files, FileTerms
from gateway.files.store import UNKNOWN_TYPE
from gateway.weights.cache import Joint, WeightsCache, locked, making_room, sha256_of

KEEP_S = 24 * 3600.0  # after the last request for it, at most twice that: the sweep of the store removes it


class NotShared(Exception):
    """Weights that a request needs are neither on this node nor in the files store."""


class WeightsShare:
    """The files of a node's cache in the store. clock: Unix seconds. Belongs to one event loop."""

    def __init__(self, files: Files, clock: Callable[[], float] = time.time) -> None:
        self._files, self._clock = files, clock
        self._putting: Joint[None] = Joint()

    async def put(self, path: Path) -> None:
        """Have a file of a cache in the store for the next day. Raises StoreUnavailable."""
        await self._putting.run(path.name, lambda: self._put(path))

    async def fetch(self, sha256: str, cache: WeightsCache) -> Path:
        """The file of that content, brought into `cache`. Raises NotShared, StoreUnavailable, CacheFull and OSError."""
        async with locked(cache.lock_of(sha256)):
            path = await asyncio.to_thread(cache.find, sha256)
            if path is not None:  # somebody else was first
                return path
            info = await self._files.stat(_key(sha256))
            if info is None:
                raise NotShared(f"weights {sha256[:8]} are neither in the cache of this node nor in the files store")
            with cache.arriving() as arriving:
                async for piece in self._files.open(info.key, 0, info.size):
                    await asyncio.to_thread(arriving.write, piece)
                if arriving.sha256 != sha256:
                    raise NotShared(f"weights {sha256[:8]} came from the files store with another content")
                return await asyncio.to_thread(cache.keep, arriving)

    async def _put(self, path: Path) -> None:
        key, now = _key(path.name), self._clock()
        info = await self._files.stat(key)
        if info is not None and (info.terms.expires_at or now) > now + KEEP_S:
            return
        with await asyncio.to_thread(path.open, "rb") as file:
            await self._files.save(key, file, UNKNOWN_TYPE, path.name, FileTerms(expires_at=now + 2 * KEEP_S))


class WeightsOfNode:
    """Finds on the node that draws what another one may have fetched."""

    def __init__(self, cache: WeightsCache, share: WeightsShare | None) -> None:
        """share: None where all nodes have the same cache."""
        self._cache, self._share = cache, share
        self._bringing: Joint[Path] = Joint()

    async def bring(self, path: Path) -> Path:
        """The file of this node with the content that a cache's path names; any other path as it is.

        It is in use from now on. Raises NotShared, StoreUnavailable, and PlatformError where this node cannot keep it.
        """
        with making_room():
            return await self._bring(path)

    async def _bring(self, path: Path) -> Path:
        sha256 = sha256_of(path)
        if sha256 is None:
            return path
        found = await asyncio.to_thread(self._cache.find, sha256)
        if found is not None:
            return found
        share = self._share
        if share is None:
            raise NotShared(
                f"weights {sha256[:8]} are not in the cache of this node: several nodes need a bucket "
                "(gateway.files_url) or a folder weights.cache that all of them see"
            )
        return await self._bringing.run(sha256, lambda: share.fetch(sha256, self._cache))


def _key(sha256: str) -> str:
    return f"weights/{sha256}.safetensors"
