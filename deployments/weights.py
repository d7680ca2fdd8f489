"""What a replica finds weights with that clients name, as its settings have it, and the metrics of that."""

from pathlib import Path
from typing import Protocol

from deployments.monitoring import RayMonitor
from gateway.files.backends import files_of
from gateway.images.fetch import Fetcher, FetchLimits, SilentServers
from gateway.images.ssrf import NameResolver
from gateway.monitoring.contract import WEIGHTS_BYTES, WEIGHTS_EVICTIONS, WEIGHTS_HITS, WEIGHTS_MISSES
from gateway.settings import FixedSettings
from gateway.weights.cache import WeightsCache
from gateway.weights.finder import WeightsFinder
from gateway.weights.settings import WeightsSettings
from gateway.weights.sharing import WeightsOfNode, WeightsShare
from gateway.weights.sources import Kind
from pipelines.weights.header import parse_header

REDIRECTS = 5  # a hub's, for a renamed repository and to its store
LONGER_S = 60.0  # than a request may run, for one that is just being cancelled


class Finds(Protocol):
    """The part of `gateway.weights.finder.WeightsFinder` that a replica uses."""

    async def find(self, word: str, field: str, kind: Kind, owner: str = "") -> Path: ...


class Brings(Protocol):
    """The part of `gateway.weights.sharing.WeightsOfNode` that a replica uses."""

    async def bring(self, path: Path) -> Path: ...


class CountedFinder:
    """A finder whose cache is counted into Ray's metrics."""

    def __init__(self, finder: Finds, cache: WeightsCache) -> None:
        self._finder, self._cache = finder, cache
        self._monitor, self._seen = RayMonitor(), (0, 0, 0, 0)

    async def find(self, word: str, field: str, kind: Kind, owner: str = "") -> Path:
        try:
            return await self._finder.find(word, field, kind, owner)
        finally:
            self._report()

    def _report(self) -> None:
        counts = self._cache.counts
        counted = (counts.bytes, counts.hits, counts.misses, counts.evictions)
        metrics = (WEIGHTS_BYTES, WEIGHTS_HITS, WEIGHTS_MISSES, WEIGHTS_EVICTIONS)
        for metric, now, before in zip(metrics, counted, self._seen, strict=True):
            self._monitor.add(metric, now - before)
        self._seen = counted


def finder_of(gateway: FixedSettings, weights: WeightsSettings) -> Finds:
    """A finder with the settings' caps. Raises ValueError for a token that is not where it is said to be, and OSError
    where the cache's folder cannot be made."""
    limits = FetchLimits(
        timeout_s=weights.timeout_s,
        redirects=REDIRECTS,
        allow_loopback=gateway.allow_loopback_urls,
        grace_s=weights.grace_s,
        least_bytes_per_s=weights.least_bytes_per_s,
    )
    fetcher = Fetcher(limits, NameResolver(), weights.read_tokens(), SilentServers())
    cache = _cache_of(gateway, weights)
    return CountedFinder(
        WeightsFinder(weights, cache, fetcher, files_of(gateway), parse_header, _share_of(gateway)), cache
    )


def weights_of_node(gateway: FixedSettings, weights: WeightsSettings) -> Brings:
    """What brings to a node that draws what another one has fetched. Raises OSError as `finder_of`."""
    return WeightsOfNode(_cache_of(gateway, weights), _share_of(gateway))


def _cache_of(gateway: FixedSettings, weights: WeightsSettings) -> WeightsCache:
    folder = gateway.data_dir / "weights" if weights.cache is None else weights.cache
    cache = WeightsCache(folder, weights.cache_bytes, gateway.run_timeout_s + LONGER_S)
    cache.open()
    return cache


def _share_of(gateway: FixedSettings) -> WeightsShare | None:
    """A bucket is what several machines have in common."""
    return None if gateway.files_url is None else WeightsShare(files_of(gateway))
