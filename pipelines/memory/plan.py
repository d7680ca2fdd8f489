"""The memory plan: what of a family stays on the device, what is brought on demand, how many rows a size may have."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MemoryPlan:
    """How the memory of a device is used. All in bytes.

    memory: what is planned with. resident: whether the family's own models stay on the device from the start; otherwise
    every part lies in the host's memory and is brought when it is used, and LoRAs are merged there. parts: what models
    may hold on the device at one time, merged ones included. working: set aside for what calls need while they run.
    merged: of `parts`, what merged weights and control networks may hold where the family is resident.
    row_pixel: what one row of a UNet call needs for each pixel of its latent.
    """

    memory: int
    resident: bool
    parts: int
    working: int
    merged: int
    row_pixel: int

    def rows_at(self, pixels: int) -> int:
        """The most rows of a call at that many pixels of the latent: at least 1."""
        return max(1, self.working // (self.row_pixel * pixels))
