"""What a picture's weights are made of: the files that a request names, and the key that says the same by content."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.parts import Part

Changes = tuple[tuple[str, float], ...]  # (sha256 of a LoRA's file, scale), sorted, without scales of 0


@dataclass(frozen=True, slots=True)
class LoraRef:
    """A LoRA's file and its scale.

    field: where in the client's input it was named, for the InputFault about it. force: whether what fits of it is
    taken where it does not fit as a whole; of a file that is named more than once, each that acts has to say so.
    """

    path: Path
    scale: float
    field: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True)
class VariantSpec:
    """What to make of a family's checkpoint. Scales of a file that is named twice add up.

    performance: the LoRA of a performance mode; it belongs to the base, which many requests share. adapters: the LoRAs
    of one request, in any order. patch: the family's part that makes an inpaint model of the base; None leaves it as it
    is. controls: kinds of the control networks that the picture needs on top.
    """

    performance: tuple[LoraRef, ...] = ()
    adapters: tuple[LoraRef, ...] = ()
    controls: tuple[Part, ...] = ()
    patch: Part | None = None

    @property
    def loras(self) -> tuple[LoraRef, ...]:
        return (*self.performance, *self.adapters)


@dataclass(frozen=True, slots=True)
class BaseKey:
    """Names a merged base: what is costly to build and alike in many requests, so the hint by which to route them.

    checkpoint: the name of its file. patch: the same, of an inpaint model; empty for none.
    """

    checkpoint: str
    performance: Changes = ()
    patch: str = ""


@dataclass(frozen=True, slots=True)
class VariantKey:
    """Names a variant by content. adapters: the LoRAs of a row on top of the base."""

    base: BaseKey
    adapters: Changes = ()

    @property
    def changes(self) -> Changes:
        """Of base and row together."""
        return summed((*self.base.performance, *self.adapters))

    def __str__(self) -> str:
        """For people: the checkpoint, and each LoRA by the start of its sha256."""
        changes = (*self.base.performance, *self.adapters)
        return " + ".join(
            [
                self.base.checkpoint,
                *filter(None, [self.base.patch]),
                *(f"{sha256[:8]} x {scale:g}" for sha256, scale in changes),
            ]
        )


def summed(changes: Iterable[tuple[str, float]]) -> Changes:
    """Changes in their one form."""
    scales: defaultdict[str, float] = defaultdict(float)
    for sha256, scale in changes:
        scales[sha256] += scale
    return tuple(sorted((sha256, scale) for sha256, scale in scales.items() if scale != 0))
