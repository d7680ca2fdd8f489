"""The picture of rows per UNet call over time, one strip a competitor, as an SVG: no plotting library is needed."""

from collections.abc import Mapping, Sequence

from benchmarks.plain import Call

WIDTH, STRIP, LEFT, TOP = 1000, 110, 50, 34
USEFUL, RIDING = "#2166ac", "#f4a582"


def timeline(strips: Mapping[str, Sequence[Call]], arrivals: Sequence[float], title: str) -> str:
    """strips: each competitor's calls; arrivals: of the jobs; all in seconds since the first job could arrive."""
    span = max(call.ended for calls in strips.values() for call in calls)
    most = max(call.rows for calls in strips.values() for call in calls)
    x, y = (WIDTH - LEFT - 20) / span, (STRIP - 40) / most
    height = TOP + STRIP * len(strips) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-size="14">{title}</text>',
    ]
    for at, (name, calls) in enumerate(strips.items()):
        bottom = TOP + STRIP * (at + 1) - 16
        parts.append(
            f'<text x="{LEFT}" y="{bottom - STRIP + 34}">{name}: the last call ends at {_last(calls):.1f} s</text>'
        )
        for call in calls:
            for rows, colour in ((call.rows, RIDING), (call.useful, USEFUL))[call.rows == call.useful :]:
                parts.append(
                    f'<rect x="{LEFT + call.began * x:.1f}" y="{bottom - rows * y:.1f}" '
                    f'width="{(call.ended - call.began) * x:.2f}" height="{rows * y:.1f}" fill="{colour}"/>'
                )
        for rows in (0, most):
            parts.append(f'<text x="{LEFT - 8}" y="{bottom - rows * y + 4:.1f}" text-anchor="end">{rows}</text>')
        parts.append(f'<path d="M{LEFT} {bottom}H{WIDTH - 20}" stroke="black"/>')
        ticks = "".join(f"M{LEFT + arrival * x:.1f} {bottom}v6" for arrival in arrivals)
        parts.append(f'<path d="{ticks}" stroke="black"/>')
    foot = (
        f"rows per UNet call over {span:.1f} s; ticks: arrivals; light: rows of jobs that are finished and ride along"
    )
    parts.append(f'<text x="{LEFT}" y="{height - 10}">{foot}</text></svg>')
    return "\n".join(parts) + "\n"


def _last(calls: Sequence[Call]) -> float:
    return max(call.ended for call in calls)
