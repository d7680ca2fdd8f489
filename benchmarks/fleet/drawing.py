"""Replicas and waits over time, one strip a policy, as an SVG: no plotting library is needed."""

from collections.abc import Mapping, Sequence

from benchmarks.fleet.service import Sample

WIDTH, STRIP, LEFT, TOP, GAP = 1000, 150, 60, 40, 30
PAID, LIVING, DRAWS, WAITS = "#d9d9d9", "#92c5de", "#2166ac", "#b2182b"
POINTS = 480


def picture(strips: Mapping[str, Sequence[Sample]], title: str) -> str:
    """strips: each policy's samples. Grey: replicas that are paid for; light: those that live; dark: of them those that
    draw; red: requests that wait, on a scale of its own."""
    span = max(samples[-1].at for samples in strips.values())
    most = max(sample.target for samples in strips.values() for sample in samples)
    queue = max(1, *(sample.waits for samples in strips.values() for sample in samples))
    height = TOP + (STRIP + GAP) * len(strips) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{title}</text>',
    ]
    for at, (name, samples) in enumerate(strips.items()):
        bottom = TOP + (STRIP + GAP) * at + STRIP
        shown = samples[:: max(1, len(samples) // POINTS)]
        x = [LEFT + sample.at / span * (WIDTH - 2 * LEFT) for sample in shown]
        scale = (STRIP - 20) / most
        for colour, heights in (
            (PAID, [sample.target for sample in shown]),
            (LIVING, [min(sample.living, sample.target) for sample in shown]),
            (DRAWS, [sample.draws for sample in shown]),
        ):
            line = " ".join(f"{each:.1f},{bottom - tall * scale:.1f}" for each, tall in zip(x, heights, strict=True))
            parts.append(f'<polygon points="{x[0]:.1f},{bottom} {line} {x[-1]:.1f},{bottom}" fill="{colour}"/>')
        waits = " ".join(
            f"{each:.1f},{bottom - sample.waits / queue * (STRIP - 20):.1f}"
            for each, sample in zip(x, shown, strict=True)
        )
        parts += [
            f'<polyline points="{waits}" fill="none" stroke="{WAITS}"/>',
            f'<text x="{LEFT}" y="{bottom - STRIP + 12}">{name}</text>',
            f'<text x="{LEFT - 6}" y="{bottom}" text-anchor="end">0</text>',
            f'<text x="{LEFT - 6}" y="{bottom - STRIP + 24}" text-anchor="end">{most}</text>',
            f'<text x="{WIDTH - LEFT + 6}" y="{bottom - STRIP + 24}" fill="{WAITS}">{queue}</text>',
            f'<path d="M{LEFT} {bottom}H{WIDTH - LEFT}" stroke="black"/>',
        ]
    foot = f"{span / 3600:.1f} hours; grey: replicas wanted, light: living, dark: drawing; red: requests that wait"
    parts.append(f'<text x="{LEFT}" y="{height - 10}">{foot}</text></svg>')
    return "\n".join(parts) + "\n"
