"""The verdict of a soak: what grows fails, whatever peaks there are; what does not grow passes."""

import random
from collections.abc import Callable

import pytest

from benchmarks.soak.verdict import Verdict, Windows
from benchmarks.soak.watching import Folder, Sample

MINUTES = 30
WINDOWS = Windows(warm_s=300, width_s=120, end_s=60 * MINUTES)
TIMES = range(0, 60 * MINUTES, 5)


def held(
    at: float,
    role: str = "Gateway",
    pid: int = 1,
    mib: float = 100,
    files: float = 50,
    shared: float = 20,
    **counts: int,
) -> Sample:
    return Sample(at, role, pid, mib, mib + files, shared, counts.get("descriptors", 40), counts.get("threads", 20))


def folder(at: float, wal: float = 4.0, files: float = 30.0) -> Folder:
    return Folder(at, wal, 1.0 + at / 1000, files)


def of(*samples: Sample, folders: list[Folder] | None = None) -> Verdict:
    return Verdict(samples, folders or [folder(at) for at in TIMES], WINDOWS)


def test_what_stays_passes() -> None:
    verdict = of(*(held(at) for at in TIMES))
    assert verdict.failures == []
    assert [row["flat"] for row in (*verdict.rows(), *verdict.folder_rows())] == ["yes"] * 3


def test_what_grows_until_it_is_warm_passes() -> None:
    assert of(*(held(at, mib=100 + min(at, 240)) for at in TIMES)).failures == []


def test_a_leak_of_a_quarter_an_hour_fails() -> None:
    (failure,) = [one for one in of(*(held(at, mib=100 * (1 + at / 14_400)) for at in TIMES)).failures if "own" in one]
    assert failure.startswith("Gateway: own memory in MiB 101.7 when warm, 111.7")


def test_pages_of_files_that_are_kept_fail() -> None:
    (failure,) = of(*(held(at, files=50 + at / 60) for at in TIMES)).failures
    assert failure.startswith("Gateway: resident memory in MiB")


def test_pages_of_the_object_store_that_are_read_pass_and_more_than_it_holds_fails() -> None:
    assert of(*(held(at, shared=20 + at / 4) for at in TIMES)).failures == []
    (failure,) = of(*(held(at, shared=20 + at / 2) for at in TIMES)).failures
    assert failure.startswith("Gateway: shared memory in MiB")


def test_memory_that_comes_and_goes_by_a_third_passes() -> None:
    chance = random.Random(3)
    assert of(*(held(at, mib=100 + chance.choice((0, 5, 33))) for at in TIMES)).failures == []


def test_what_is_worked_on_for_half_of_the_last_minutes_is_not_held() -> None:
    assert of(*(held(at, mib=250 if at > 60 * MINUTES - 70 else 100) for at in TIMES)).failures == []


def test_a_leak_below_peaks_fails() -> None:
    chance = random.Random(3)
    leaking = (held(at, mib=100 + at / 60 + chance.choice((0, 0, 40))) for at in TIMES)
    assert any("own" in one for one in of(*leaking).failures)


@pytest.mark.parametrize("what", ["descriptors", "threads"])
def test_what_is_opened_and_not_closed_fails(what: str) -> None:
    (failure,) = of(*(held(at, **{what: 40 + at // 150}) for at in TIMES)).failures
    assert what in failure


@pytest.mark.parametrize(
    ("what", "grown"),
    [("WAL", lambda at: folder(at, wal=4 + at / 200)), ("files", lambda at: folder(at, files=30 + at / 100))],
)
def test_a_folder_that_grows_fails(what: str, grown: Callable[[float], Folder]) -> None:
    (failure,) = of(*(held(at) for at in TIMES), folders=[grown(at) for at in TIMES]).failures
    assert what in failure


def test_a_process_that_ended_and_its_successor_fail() -> None:
    former = [held(at, "Diffuser", pid=2) for at in TIMES if at < 900]
    latter = [held(at, "Diffuser", pid=3) for at in TIMES if at >= 900]
    failures = of(*(held(at) for at in TIMES), *former, *latter).failures
    assert [one.split(" did")[0] for one in failures] == ["Diffuser (2)", "Diffuser (3)"]


def test_workers_that_ray_keeps_for_later_may_come_and_go() -> None:
    idle = [held(at, "Ray's idle worker", pid=2) for at in TIMES if at < 900]
    assert of(*(held(at) for at in TIMES), *idle).failures == []


def test_each_of_two_replicas_is_judged() -> None:
    second = (held(at, pid=2, mib=100 + at / 60) for at in TIMES)
    failures = of(*(held(at) for at in TIMES), *second).failures
    assert failures
    assert all(one.startswith("Gateway (2): ") for one in failures)


def test_a_run_without_samples_fails() -> None:
    assert of().failures == ["no process lived from the warm minutes to the end"]


def test_a_folder_that_was_not_measured_fails() -> None:
    early = [folder(at) for at in TIMES if at < 120]
    failures = of(*(held(at) for at in TIMES), folders=early).failures
    assert [one.split(": ")[0] for one in failures] == ["the ledger", "the folder"]
