"""The cache on disk: what is evicted, what never is, and what survives the death of a process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.errors import PlatformError
from gateway.weights.cache import CacheFull, Remembered, WeightsCache, making_room, sha256_of
from tests.gateway.fakes import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def cache(tmp_path: Path, clock: Clock) -> WeightsCache:
    made = WeightsCache(tmp_path, 100, in_use_s=60, clock=clock)
    made.open()
    return made


def put(cache: WeightsCache, content: bytes) -> Path:
    with cache.arriving() as arriving:
        arriving.write(content)
        return cache.keep(arriving)


def files(cache: WeightsCache, folder: str = "blobs") -> set[Path]:
    return set((cache.folder / folder).iterdir())


def test_a_file_is_named_by_its_content_and_found_by_it(cache: WeightsCache) -> None:
    path = put(cache, b"weights")
    assert path.read_bytes() == b"weights"
    sha256 = sha256_of(path)
    assert sha256 is not None
    assert cache.find(sha256) == path
    assert cache.find("0" * 64) is None
    assert sha256_of(cache.folder / "addresses" / sha256) is None
    assert put(cache, b"weights") == path


def test_the_one_used_longest_ago_makes_room(cache: WeightsCache, clock: Clock) -> None:
    old, used = put(cache, b"a" * 40), put(cache, b"b" * 40)
    cache.remember("old", Remembered(old.name, 40, 0.0))
    cache.remember("used", Remembered(used.name, 40, 0.0))
    clock.now += 30
    cache.find(used.name)
    clock.now += 60
    new = put(cache, b"c" * 40)
    assert files(cache) == {used, new}
    assert cache.counts.evictions == 1
    assert cache.recall("used") is not None
    assert cache.recall("old") is None
    assert len(files(cache, "addresses")) == 1


def test_a_use_leaves_the_time_of_the_content_by_which_readers_know_it(cache: WeightsCache, clock: Clock) -> None:
    path = put(cache, b"a" * 40)
    changed = path.stat().st_mtime_ns
    clock.now += 61
    assert cache.find(path.name) == path
    assert path.stat().st_mtime_ns == changed
    with pytest.raises(CacheFull):  # though it is in use
        put(cache, b"b" * 80)


def test_what_is_in_use_is_never_removed(cache: WeightsCache, clock: Clock) -> None:
    both = {put(cache, b"a" * 40), put(cache, b"b" * 40)}
    clock.now += 59
    with pytest.raises(CacheFull):
        put(cache, b"c" * 40)
    assert files(cache) == both
    assert not files(cache, "arriving")
    clock.now += 1
    put(cache, b"c" * 40)


def test_where_there_cannot_be_room_nothing_is_removed(cache: WeightsCache, clock: Clock) -> None:
    unused = put(cache, b"a" * 40)
    cache.remember("unused", Remembered(unused.name, 40, 0.0))
    clock.now += 61
    used = put(cache, b"b" * 50)
    with pytest.raises(CacheFull):
        put(cache, b"c" * 60)
    assert files(cache) == {unused, used}
    assert cache.recall("unused") is not None


def test_a_cache_that_is_full_is_an_error_to_try_again_after() -> None:
    for fault in (CacheFull(), OSError("disk full at /secret")):
        with pytest.raises(PlatformError, match="try again") as caught, making_room():
            raise fault
        assert caught.value.headers()["x-fal-retryable"] == "true"
        assert "/secret" not in caught.value.detail


def test_a_file_that_lost_bytes_is_not_the_one_that_is_remembered(cache: WeightsCache) -> None:
    path = put(cache, b"weights")
    cache.remember("there", Remembered(path.name, 7, 0.0, '"etag"'))
    assert cache.recall("there") == (Remembered(path.name, 7, 0.0, '"etag"'), path)
    path.write_bytes(b"weigh")
    assert cache.recall("there") is None


def test_the_addresses_of_one_file_do_not_pile_up(tmp_path: Path) -> None:
    """Any query makes another address, and the file that would take them along stays."""
    cache = WeightsCache(tmp_path, 100, in_use_s=60, most_addresses=10)
    cache.open()
    path = put(cache, b"weights")
    for number in range(30):
        cache.remember(f"there?{number}", Remembered(path.name, 7, 0.0))
        newest = max(files(cache, "addresses"), key=lambda note: note.stat().st_mtime_ns)
        os.utime(newest, (number, number))  # a file system may not tell them apart
        assert len(files(cache, "addresses")) <= 10
    assert cache.recall("there?29") is not None
    assert cache.recall("there?21") is not None
    assert cache.recall("there?0") is None
    assert cache.find(path.name) == path


def test_a_damaged_note_is_none(cache: WeightsCache) -> None:
    cache.remember("there", Remembered("0" * 64, 7, 0.0))
    (note,) = files(cache, "addresses")
    note.write_text("{")
    assert cache.recall("there") is None


def test_a_note_that_a_full_disk_cuts_short_leaves_nothing(
    cache: WeightsCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        cache.remember("there", Remembered("0" * 64, 7, 0.0))
    assert not files(cache, "addresses") | files(cache, "arriving")


def test_whose_lock_an_address_shares_is_the_same_for_all_of_a_node_and_guessed_by_nobody(tmp_path: Path) -> None:
    """Or a client could make an address that drips hold up the fetching of another one."""

    def locks(folder: str) -> list[str]:
        opened = WeightsCache(tmp_path / folder, 100, in_use_s=60)
        opened.open()
        return [opened.lock_of(f"https://hub.example/{number}").name for number in range(50)]

    assert locks("one") == locks("one")
    assert locks("one") != locks("another")


def test_an_address_is_written_nowhere(cache: WeightsCache) -> None:
    """Its query may hold a token."""
    path = put(cache, b"weights")
    cache.remember("https://else.example/a?token=secret", Remembered(path.name, 7, 0.0))
    (note,) = files(cache, "addresses")
    assert "secret" not in note.name + note.read_text()


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(cache: WeightsCache) -> None:
    code = (
        "import os, sys; from pathlib import Path; from gateway.weights.cache import WeightsCache;"
        "file = WeightsCache(Path(sys.argv[1]), 100, 60).arriving(); file.write(b'half'); file.sync();"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(cache.folder)], check=False)
    (orphan,) = files(cache, "arriving")
    with cache.arriving() as living:
        for path in (orphan, living.path):
            os.utime(path, (0, 0))
        cache.open()
        assert files(cache, "arriving") == {living.path}
