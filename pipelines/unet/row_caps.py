"""Row caps: how many rows of a size one UNet call may hold."""

from dataclasses import dataclass, field

from pipelines.memory.plan import MemoryPlan


@dataclass(frozen=True)
class RowCaps:
    """rows: the most of any size. measured: (pixels of the latent, rows) of the sizes that were profiled. plan: how
    the memory of the device is used; None where nothing is planned.

    A size in between has the cap of the smallest measured one that is not smaller, times what it is smaller by; one
    that is larger than all has the largest one's cap, divided by what it is larger by. A guided row pair always fits.
    """

    rows: int
    measured: tuple[tuple[int, int], ...] = field(default=())
    plan: MemoryPlan | None = None

    def at(self, pixels: int) -> int:
        """The cap of a size, of at least 2 and at most `rows`."""
        most = self.rows if self.plan is None else min(self.rows, self.plan.rows_at(pixels))
        return max(2, min(most, self._gaining(pixels)))

    def _gaining(self, pixels: int) -> int:
        """Up to how many rows a call of a size gains by more of them."""
        if not self.measured:
            return self.rows
        known, rows = min(
            ((known, rows) for known, rows in self.measured if known >= pixels), default=max(self.measured)
        )
        return rows * known // pixels
