"""What each process holds over time, as an SVG: no plotting library is needed."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from benchmarks.soak.verdict import GROWTH, Windows

WIDTH, STRIP, LEFT, TOP, GAP = 1000, 54, 190, 40, 14
LINE, WARM = "#2166ac", "#92c5de"

Points = Sequence[tuple[float, float]]


def picture(strips: Mapping[str, Points], windows: Windows, title: str) -> str:
    """strips: of each process, seconds and MiB. A band shows what it held when it was warm, and what it may grow to; a
    strip begins at nought."""
    span = max(at for points in strips.values() for at, _ in points)
    height = TOP + (STRIP + GAP) * len(strips) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="20" y="20" font-size="14">{title}</text>',
    ]
    for number, (name, points) in enumerate(strips.items()):
        parts += _strip(name, points, TOP + (STRIP + GAP) * number + STRIP, span, windows)
    foot = f"{span / 60:.0f} minutes; the band: from the value at minute {windows.warm_s / 60:g} to {GROWTH:g} times it"
    parts.append(f'<text x="20" y="{height - 10}">{foot}</text></svg>')
    return "\n".join(parts) + "\n"


def _strip(name: str, points: Points, bottom: float, span: float, windows: Windows) -> Iterator[str]:
    most = 1.1 * max(value for _, value in points) or 1.0
    warm = median([value for at, value in points if windows.is_warm(at)] or [0.0])
    wide = WIDTH - LEFT - 70

    def y(value: float) -> float:
        return bottom - value / most * STRIP

    line = " ".join(f"{LEFT + at / span * wide:.1f},{y(value):.1f}" for at, value in points)
    yield f'<text x="20" y="{bottom - STRIP / 2:.0f}">{name}</text>'
    yield (
        f'<rect x="{LEFT + windows.warm_s / span * wide:.1f}" y="{y(GROWTH * warm):.1f}" '
        f'width="{wide * (1 - windows.warm_s / span):.1f}" height="{y(warm) - y(GROWTH * warm):.1f}" fill="{WARM}"/>'
    )
    yield f'<polyline points="{line}" fill="none" stroke="{LINE}"/>'
    yield f'<text x="{WIDTH - 66}" y="{y(points[-1][1]) + 4:.1f}">{points[-1][1]:.4g} MiB</text>'
    yield f'<path d="M{LEFT} {bottom}H{LEFT + wide}" stroke="black"/>'
