"""Gates 2 to 4: pictures show what prompts say, at every size and in the performance modes."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from benchmarks.pocket.acceptance.engine import drawn, extreme_speed, guided, lightning
from benchmarks.pocket.acceptance.metric import Metric
from benchmarks.pocket.world.drawing import Pixels
from benchmarks.pocket.world.exam import accuracy, held_out
from pipelines.drawing import Drawer
from pipelines.spec import Spec
from pipelines.weights.family import Family

WANTED: Mapping[str, float] = MappingProxyType({"background": 0.9, "colour": 0.9, "shape": 0.8, "place": 0.8})
SLACK = 0.1  # by which other sizes and modes may be worse
MODES: Mapping[str, Callable[[str, int, int], Spec]] = MappingProxyType(
    {"30 steps": guided, "Extreme Speed": extreme_speed, "Lightning": lightning}
)
OTHERS: Mapping[int, tuple[tuple[str, int], ...]] = MappingProxyType(
    {
        3: (("30 steps", 512), ("30 steps", 1024)),
        4: (("Extreme Speed", 256), ("Lightning", 256), ("Extreme Speed", 1024)),  # the last is a request's default
    }
)


def pictures(drawer: Drawer, family: Family, mode: str, side: int, count: int) -> list[Pixels]:
    """Of held-out prompts."""
    _, said = held_out(count)
    return drawn(drawer, family.catalogue, [MODES[mode](text, side, seed) for seed, text in enumerate(said)])


def gate(drawer: Drawer, family: Family, mode: str, side: int, count: int, least: Mapping[str, float]) -> list[Metric]:
    """least: what is wanted of each aspect."""
    scenes, _ = held_out(count)
    found = accuracy(scenes, pictures(drawer, family, mode, side, count))
    return [Metric(f"{mode}, {side} x {side}: {name}", found[name], wanted) for name, wanted in least.items()]


def looser(found: list[Metric]) -> dict[str, float]:
    """What is wanted elsewhere, where these metrics were reached."""
    return {name: metric.reached - SLACK for name, metric in zip(WANTED, found, strict=True)}
