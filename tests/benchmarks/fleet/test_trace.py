import numpy as np
import pytest

from benchmarks.fleet.trace import Shape, draw, kinds

SHAPE = Shape(requests=200_000)


def rate(at: np.ndarray, begins: float, ends: float) -> float:
    return float(((at >= begins) & (at < ends)).sum() / (ends - begins))


def test_the_wave_goes_from_one_to_three_with_the_mean_that_is_wanted() -> None:
    trace, seconds = draw(SHAPE, 1), SHAPE.seconds
    low = rate(trace.at, 0, seconds / 50)
    high = rate(trace.at, seconds * 0.49, seconds * 0.51)
    assert high / low == pytest.approx(3, rel=0.05)
    assert rate(trace.at, 0, seconds) == pytest.approx(70, rel=0.01)


def test_a_burst_brings_ten_times_as_many_for_its_seconds() -> None:
    trace = draw(Shape(requests=200_000, burst=10), 1)
    begins = float(trace.at[-1]) / 4
    assert rate(trace.at, begins + 1, begins + 25) / rate(trace.at, begins - 60, begins - 10) == pytest.approx(
        10, rel=0.1
    )


def test_the_mixture_is_the_one_that_is_wanted() -> None:
    trace = draw(SHAPE, 1)
    shares = np.bincount(trace.kind) / len(trace)
    assert shares == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.01)
    assert [(kind.steps, kind.row_steps) for kind in kinds()] == [(8, 8), (30, 60), (60, 120), (18, 144)]
    assert len(np.unique(trace.loras)) == 200


def test_a_seed_draws_the_same_trace_again() -> None:
    one, same, other = (draw(Shape(requests=1000), seed) for seed in (1, 1, 2))
    assert (one.at == same.at).all()
    assert (one.loras == same.loras).all()
    assert (one.at != other.at).any()
