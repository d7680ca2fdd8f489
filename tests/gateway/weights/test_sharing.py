"""Two nodes, each with a cache of its own, and the store between them."""

from pathlib import Path

import pytest

from gateway.files.backends import LocalFiles
from gateway.files.store import FileStore
from gateway.weights.cache import WeightsCache
from gateway.weights.sharing import KEEP_S, NotShared, WeightsOfNode, WeightsShare
from tests.gateway.files.away import AwayBlobs
from tests.gateway.images.test_fetch import answer, serving
from tests.gateway.weights.files import FIELD, finder, weights


def cache_of(folder: Path) -> WeightsCache:
    cache = WeightsCache(folder, 10_000, in_use_s=100)
    cache.open()
    return cache


async def test_what_one_node_fetched_another_draws_with(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path / "store")
    async with serving(lambda *_: answer(weights())) as url:
        path = await finder(tmp_path / "one", share=WeightsShare(files)).find(url, FIELD, "LoRA")
    other = cache_of(tmp_path / "two")
    brought = await WeightsOfNode(other, WeightsShare(files)).bring(path)
    assert brought == other.folder / "blobs" / path.name
    assert brought.read_bytes() == weights()
    alone = WeightsOfNode(other, None)
    assert await alone.bring(path) == brought
    assert await alone.bring(tmp_path / "family" / "style.safetensors") == tmp_path / "family" / "style.safetensors"


async def test_without_a_store_between_them_it_is_said_what_is_needed(tmp_path: Path) -> None:
    async with serving(lambda *_: answer(weights())) as url:
        path = await finder(tmp_path / "one").find(url, FIELD, "LoRA")
    other = cache_of(tmp_path / "two")
    with pytest.raises(NotShared, match=r"gateway\.files_url"):
        await WeightsOfNode(other, None).bring(path)
    with pytest.raises(NotShared, match="neither"):
        await WeightsOfNode(other, WeightsShare(LocalFiles(tmp_path / "store"))).bring(path)


async def test_another_content_is_not_taken(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path / "store")
    key = f"weights/{'0' * 64}.safetensors"
    await files.put(key, b"another", "application/octet-stream")
    cache = cache_of(tmp_path / "two")
    with pytest.raises(NotShared, match="another content"):
        await WeightsOfNode(cache, WeightsShare(files)).bring(Path("blobs") / ("0" * 64))
    assert not [*(cache.folder / "blobs").iterdir(), *(cache.folder / "arriving").iterdir()]


async def test_what_nobody_draws_with_any_more_is_swept_and_the_rest_stays(tmp_path: Path) -> None:
    now = [0.0]
    blobs = AwayBlobs(tmp_path / "store")
    files = FileStore(blobs, clock=lambda: now[0])
    share = WeightsShare(files, clock=lambda: now[0])
    cache = cache_of(tmp_path / "one")
    paths = []
    for content in (b"used", b"unused"):
        with cache.arriving() as arriving:
            arriving.write(content)
            paths.append(cache.keep(arriving))
    for path in paths:
        await share.put(path)
    now[0] = 1.5 * KEEP_S
    await share.put(paths[0])
    await files.sweep()
    assert len([*blobs.list("weights/")]) == 2
    now[0] = 2.5 * KEEP_S
    await files.sweep()
    assert [*blobs.list("weights/")] == [f"weights/{paths[0].name}.safetensors"]
