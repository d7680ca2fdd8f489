"""Whether a service holds at the end what it held once it was warm."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import nan
from statistics import median

from benchmarks.report import Cell
from benchmarks.soak.watching import MIB, Folder, Sample
from deployments.own_ray import OBJECT_STORE_BYTES

GROWTH = 1.05
# five per cent of little is less than a pool of threads, of gRPC's in Ray, moves by with the calls of the moment
SPARE_COUNT = 4
SPARE_MIB = 2.0
SPARE_SHARED_MIB = OBJECT_STORE_BYTES / MIB  # the whole of it
SPARE_WAL_MIB = 4.0  # SQLite begins it anew after a thousand pages
SPARE_FILES_MIB = 6.0  # a large upload more
OF_RAY_ALONE = frozenset({"Ray's idle worker"})  # it starts and ends those as it likes

Figure = Callable[[Sample], float]
Middle = Callable[[Sequence[float]], float]


@dataclass(frozen=True)
class Windows:
    """What is compared, in seconds since the start: the samples around `warm_s` and the last ones. Of memory their
    lowest decile, for what a process works on comes and goes, and what it keeps is there without it; of all else the
    median."""

    warm_s: float
    width_s: float
    end_s: float

    def is_warm(self, at: float) -> bool:
        return abs(at - self.warm_s) <= self.width_s / 2

    def is_last(self, at: float) -> bool:
        return self.end_s - self.width_s <= at <= self.end_s


@dataclass(frozen=True)
class Held:
    """One figure of one process, or of the folder. an_hour: its trend from the warm window on. limit: of what it may
    be at the end."""

    whose: str
    what: str
    warm: float
    end: float
    an_hour: float
    limit: float

    @property
    def is_flat(self) -> bool:
        return self.end <= self.limit


class Verdict:
    """On the samples of a run. ended: processes that did not live from the warm window to the end, or began later."""

    def __init__(self, samples: Sequence[Sample], folders: Sequence[Folder], windows: Windows) -> None:
        self._windows = windows
        by_process: dict[tuple[str, int], list[Sample]] = {}
        roles = {sample.pid: sample.role for sample in samples}  # the last title, for some are given late
        for sample in samples:
            by_process.setdefault((roles[sample.pid], sample.pid), []).append(sample)
        self.held: dict[str, list[Held]] = {}
        self.ended: list[str] = []
        for (role, pid), own in sorted(by_process.items()):
            if not self._lasts(own):
                if role not in OF_RAY_ALONE and self._counts(own):
                    self.ended.append(f"{role} ({pid})")
                continue
            name = role if role not in self.held else f"{role} ({pid})"
            self.held[name] = list(self._of(name, own))
        self.folder = list(self._of_folder(folders))

    @property
    def failures(self) -> list[str]:
        """What has grown or gone, each as a sentence."""
        grown = [held for each in (*self.held.values(), self.folder) for held in each if not held.is_flat]
        return [
            *(f"{one.whose}: {one.what} {one.warm:.4g} when warm, {one.end:.4g} at the end" for one in grown),
            *(f"{name} did not live from the warm minutes to the end" for name in self.ended),
            *([] if self.held else ["no process lived from the warm minutes to the end"]),
        ]

    def rows(self) -> Iterator[dict[str, Cell]]:
        """Of each process."""
        for name, (own, resident, shared, descriptors, threads) in self.held.items():
            yield {
                "process": name,
                "own MiB, warm": own.warm,
                "at the end": own.end,
                "change %": 100 * (own.end / own.warm - 1),
                "trend MiB an hour": own.an_hour,
                "resident MiB, warm": resident.warm,
                "resident at the end": resident.end,
                "resident change %": 100 * (resident.end / resident.warm - 1),
                "shared MiB at the end": shared.end,
                "descriptors": f"{descriptors.warm:.0f} to {descriptors.end:.0f}",
                "threads": f"{threads.warm:.0f} to {threads.end:.0f}",
                "flat": "yes" if all(each.is_flat for each in self.held[name]) else "no",
            }

    def folder_rows(self) -> Iterator[dict[str, Cell]]:
        for held in self.folder:
            yield {
                "what": held.what,
                "MiB, warm": held.warm,
                "at the end": held.end,
                "trend MiB an hour": held.an_hour,
                "flat": "yes" if held.is_flat else "no",
            }

    def _lasts(self, own: Sequence[Sample]) -> bool:
        return any(self._windows.is_warm(one.at) for one in own) and any(self._windows.is_last(one.at) for one in own)

    def _counts(self, own: Sequence[Sample]) -> bool:
        """Whether it should have lasted: whatever is seen after the warm window more than once."""
        return sum(one.at >= self._windows.warm_s for one in own) > 1

    def _of(self, name: str, own: Sequence[Sample]) -> Iterator[Held]:
        figures: tuple[tuple[str, Figure, float, Middle], ...] = (
            ("own memory in MiB", lambda one: one.own, SPARE_MIB, low),
            ("resident memory in MiB", lambda one: one.resident, SPARE_MIB, low),
            ("shared memory in MiB", lambda one: one.shared, SPARE_SHARED_MIB, low),
            ("descriptors", lambda one: one.descriptors, SPARE_COUNT, median),
            ("threads", lambda one: one.threads, SPARE_COUNT, median),
        )
        for what, figure, spare, middle in figures:
            yield self._held(name, what, [(one.at, figure(one)) for one in own], spare, middle)

    def _of_folder(self, folders: Sequence[Folder]) -> Iterator[Held]:
        yield self._held("the ledger", "WAL", [(one.at, one.wal) for one in folders], SPARE_WAL_MIB)
        files = [(one.at, one.files) for one in folders]
        yield self._held("the folder", "files", files, SPARE_FILES_MIB)

    def _held(
        self,
        whose: str,
        what: str,
        points: Sequence[tuple[float, float]],
        spare: float,
        middle: Middle = median,
    ) -> Held:
        windows = self._windows
        # what was not measured is not flat
        warm = middle([value for at, value in points if windows.is_warm(at)] or [nan])
        end = middle([value for at, value in points if windows.is_last(at)] or [nan])
        since = [(at, value) for at, value in points if windows.warm_s - windows.width_s / 2 <= at <= windows.end_s]
        return Held(whose, what, warm, end, 3600 * slope(since), max(GROWTH * warm, warm + spare))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between the points of the first and of the second half, pair by pair: a few peaks do not
    move it."""
    half = len(points) // 2
    pairs = zip(points[:half], points[len(points) - half :], strict=True)
    return median([(late - early) / (later - at) for (at, early), (later, late) in pairs if later > at] or [0.0])


def low(values: Sequence[float]) -> float:
    """The lowest decile."""
    return sorted(values)[len(values) // 10]
