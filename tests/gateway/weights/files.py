"""Files of weights, whole and broken, and a finder on a folder."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ModelError
from gateway.files.backends import LocalFiles
from gateway.images.fetch import Fetcher, FetchLimits, SilentServers
from gateway.weights.cache import WeightsCache
from gateway.weights.finder import WeightsFinder
from gateway.weights.settings import WeightsSettings
from gateway.weights.sharing import WeightsShare
from pipelines.weights.header import parse_header

FIELD = "loras.2.path"


def weights(size: int = 64, value: int = 0) -> bytes:
    """A safetensors file of one tensor of `size` bytes."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes([value]) * size


BROKEN: Mapping[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "unreadable": (b"\x07" * 100, "does not begin like one"),
    "pickle": (b"\x80\x02}q\x00.", "pickle"),
    "zip": (b"PK\x03\x04" + bytes(100), "pickle or an archive"),
    "login page": (b"<!doctype html><title>Log in</title>", "asks to log in"),
    "truncated": (weights()[:-1], "cut short"),
    "too long": (weights() + b"x", "behind its last tensor"),
    "damaged": (weights().replace(b"U8", b'"8'), "damaged"),
}
"""Files that are none, and what of each is told."""


def finder(
    folder: Path,
    *,
    share: WeightsShare | None = None,
    clock: Callable[[], float] = lambda: 0.0,
    tokens: Mapping[str, str] | None = None,
    cache: WeightsCache | None = None,
    grace_s: float = 5.0,
    silent: SilentServers | None = None,
    **settings: Any,
) -> WeightsFinder:
    """A finder whose cache, of 10,000 bytes, lies in `folder`."""
    set_to = WeightsSettings.model_validate({"cache_bytes": 10_000, "max_bytes": 1000, **settings})
    limits = FetchLimits(20, allow_loopback=True, grace_s=grace_s, least_bytes_per_s=1000)
    opened = WeightsCache(folder / "cache", 10_000, in_use_s=100, clock=clock) if cache is None else cache
    opened.open()
    fetcher = Fetcher(limits, tokens=tokens or {}, silent=silent)
    return WeightsFinder(set_to, opened, fetcher, LocalFiles(folder / "files"), parse_header, share, clock)


async def refused(finds: WeightsFinder, word: str, type: str, text: str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await finds.find(word, FIELD, "LoRA")
    fault = caught.value
    assert (fault.type, fault.loc, fault.status) == (type, ("loras", 2, "path"), 422)
    assert text in fault.msg
    return fault


def left(folder: Path) -> list[str]:
    """What of weights lies in the cache, whole or not."""
    return sorted(path.name for part in ("blobs", "arriving") for path in (folder / "cache" / part).iterdir())
