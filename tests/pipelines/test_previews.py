"""Previews: what latents look like, how often they are shown, and that the engine does not wait for them."""

import queue
import warnings
from collections.abc import Callable
from concurrent.futures import Executor, Future
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.catalogue import LatentColours
from pipelines.events import Drawn, Preview, Step
from pipelines.previews import PERIOD_S, Previews, pixels_of
from pipelines.spec import Size
from pipelines.trajectory import draw
from pipelines.weights.family import Family
from tests.pipelines.studio import Studio, spec

COLOURS = LatentColours(factors=((100, 0, 0, 0), (0, 100, 0, 0), (0, 0, 100, 0)), bias=(128, 128, 128))


class Held(Executor):
    """Does what it was given when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, act: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: act(*args, **named)))
        return future

    def work(self) -> None:
        for future, act in self.waiting:
            future.set_result(act())
        self.waiting = []


@pytest.fixture
def makers() -> Held:
    return Held()


def latent(red: float) -> torch.Tensor:
    return torch.tensor([red, 0, 0, 0]).reshape(4, 1, 1).expand(4, 2, 3)


def test_latents_become_colours() -> None:
    pixels = pixels_of(torch.stack([latent(0.5), latent(-9), latent(9)]), COLOURS)
    assert (pixels.shape, pixels.dtype) == ((3, 2, 3, 3), np.uint8)
    assert [tuple(picture[0, 0]) for picture in pixels] == [(178, 128, 128), (0, 128, 128), (255, 128, 128)]


def test_what_is_not_finite_is_shown_as_a_colour_without_a_warning() -> None:
    lost = torch.stack([latent(float("nan")), latent(float("inf"))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = pixels_of(lost, LatentColours(factors=((1, 0, 0, 0),) * 3, bias=(128, 128, 128)))
    assert [tuple(picture[0, 0]) for picture in pixels] == [(0, 0, 0), (255, 255, 255)]


def test_there_are_at_most_two_in_a_second(makers: Held) -> None:
    now, seen = 100.0, list[Preview]()
    previews = Previews(1, COLOURS, makers, seen.append, lambda: now)
    for step in range(24):  # three seconds of eight steps each
        previews.heard(Step(step, 24))
        previews.note(0, latent(0))
        makers.work()
        now += 0.125
    assert PERIOD_S == 0.5
    assert [preview.step for preview in seen] == [0, 4, 8, 12, 16, 20]


def test_all_pictures_are_in_each_and_grey_before_they_begin(makers: Held) -> None:
    now, seen = 0.0, list[Preview]()
    previews = Previews(3, COLOURS, makers, seen.append, lambda: now)
    previews.note(1, latent(0.5))
    makers.work()
    now += PERIOD_S
    previews.note(2, latent(1))
    makers.work()
    assert [[int(picture[0, 0, 0]) for picture in preview.pixels] for preview in seen] == [
        [128, 178, 128],
        [128, 178, 228],
    ]


def test_a_job_that_begins_anew_shows_nothing_of_its_run_before(makers: Held) -> None:
    now, seen = 0.0, list[Preview]()
    previews = Previews(2, COLOURS, makers, seen.append, lambda: now)
    variant = SimpleNamespace(ready=lambda: None)
    job: Any = SimpleNamespace(variant=variant, clean=None, prompts=())
    next(draw(job, previews))
    previews.note(1, latent(0.5))
    makers.work()
    next(draw(job, previews))
    now += PERIOD_S
    previews.note(0, latent(1))
    makers.work()
    assert [[int(picture[0, 0, 0]) for picture in preview.pixels] for preview in seen] == [[128, 178], [228, 128]]


def test_what_is_still_being_made_holds_the_next_back_and_nothing_else(makers: Held) -> None:
    now, seen = 0.0, list[Preview]()
    previews = Previews(1, COLOURS, makers, seen.append, lambda: now)
    for red in range(10):
        previews.note(0, latent(red / 10))
        now += PERIOD_S
    assert len(makers.waiting) == 1
    makers.work()
    previews.note(0, latent(1))
    assert len(makers.waiting) == 1


def test_a_listener_that_fails_is_not_the_engines_affair(makers: Held, caplog: pytest.LogCaptureFixture) -> None:
    def fail(preview: Preview) -> None:
        raise OSError

    Previews(1, COLOURS, makers, fail).note(0, latent(0))
    makers.work()
    assert "preview" in caplog.text


def events_of(family: Family, **asked: bool) -> list[Any]:
    studio = Studio(family)
    events: queue.Queue[Any] = queue.Queue()
    size = Size(width=192, height=128)
    wanted = spec(size=size, seeds=(1, 2), steps=6)
    studio.drawer.submit("one", wanted, studio.inputs(wanted), events.put, **asked)
    seen = [events.get(timeout=60)]
    while not isinstance(seen[-1], Drawn):
        seen.append(events.get(timeout=60))
    studio.drawer.close()
    return seen


def test_the_last_preview_resembles_the_pictures(pocket_family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.previews.PERIOD_S", 0.0)
    events = events_of(pocket_family, previews=True)
    shown = [event for event in events if isinstance(event, Preview)]
    assert shown[-1].pixels.shape == (2, 16, 24, 3)
    assert all(0 <= preview.step <= preview.steps == 12 for preview in shown)
    small = events[-1].images.reshape(2, 16, 8, 24, 8, 3).mean(axis=(2, 4))
    assert np.corrcoef(small.ravel(), shown[-1].pixels.astype(float).ravel())[0, 1] > 0.9


def test_only_who_asks_gets_previews(pocket_family: Family) -> None:
    assert not [event for event in events_of(pocket_family) if isinstance(event, Preview)]
