"""Pictures that show what things look like, from a spec to what is drawn: their weight, their stop, their tokens."""

import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor

from pipelines.denoising.schedules import sdxl_table
from pipelines.denoising.sigma_schedule import sigma_schedule
from pipelines.device import PlainDevice
from pipelines.engine.tasks import Answers
from pipelines.events import Pixels
from pipelines.memory.residency import RESIDENT, Residency
from pipelines.parts import Part
from pipelines.spec import Guidance, Reference, ReferenceKind, Structure
from pipelines.stages.image_prompt import REMEMBERED, ImagePromptStage, SeePicture
from pipelines.unet import guide
from pipelines.unet.guide import Evaluate, Guide, ImageReference, SizeIds
from pipelines.unet.rows import ImageAdapter
from pipelines.weights.family import Family
from pipelines.weights.image_prompt import ImagePrompter, tower_features, tower_input
from pipelines.weights.image_prompters import ImagePrompters
from pipelines.weights.sized_lru import SizedLru
from tests.pipelines.studio import Studio, spec

PHOTO = data.astronaut()[:224, 100:324]
OTHER = data.coffee()[:224, :224]
GUIDED = guide.Guidance(2.0)


def look(kind: ReferenceKind = "ImagePrompt", **how: Any) -> Reference:
    return Reference(kind=kind, source="", **how)


@pytest.fixture(scope="module")
def studio(pocket_family: Family) -> Iterator[Studio]:
    studio = Studio(pocket_family)
    yield studio
    studio.drawer.close()


# -- what is drawn


@pytest.mark.parametrize("kind", ["ImagePrompt", "FaceSwap"])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_a_picture_acts_by_weight_and_stop(studio: Studio, kind: ReferenceKind, scale: float) -> None:
    def drawn(*looks: Reference) -> Pixels:
        given = spec(pictures=looks, guidance=Guidance(scale=scale))
        return studio.draw(given, pictures=[PHOTO] * len(looks)).astype(int)

    plain = drawn()
    assert np.array_equal(drawn(look(kind, weight=0.0)), plain)
    assert np.array_equal(drawn(look(kind, stop_at=0.0)), plain)
    whole = drawn(look(kind))
    assert np.abs(whole - plain).mean() > 0.5
    for less in (drawn(look(kind, weight=0.5)), drawn(look(kind, stop_at=0.3))):
        assert np.abs(less - plain).mean() > 0.1
        assert np.abs(less - whole).mean() > 0.1


def test_each_of_four_acts_beside_edges_and_contrasts(studio: Studio) -> None:
    """Another picture in any place makes another picture."""
    edges, shades = Structure(kind="PyraCanny", source="", weight=0.7), Structure(kind="CPDS", source="", weight=0.5)
    looks = (look(weight=0.4), edges, look("FaceSwap", weight=0.3), shades, look(weight=0.3), look("FaceSwap"))
    given = spec(pictures=looks, guidance=Guidance(scale=3.0))
    shown = [PHOTO, PHOTO, PHOTO[::-1], PHOTO, OTHER, OTHER[::-1]]
    whole = studio.draw(given, pictures=shown)
    for place in range(len(looks)):
        others = [data.chelsea()[:224, :224] if at == place else each for at, each in enumerate(shown)]
        assert not np.array_equal(studio.draw(given, pictures=others), whole)


def test_both_kinds_see_a_picture_their_own_way(studio: Studio) -> None:
    one, other = (studio.draw(spec(pictures=(look(kind),)), pictures=[PHOTO]) for kind in ("ImagePrompt", "FaceSwap"))
    assert not np.array_equal(one, other)


# -- when it acts


def guide_of(*references: ImageReference) -> Guide:
    true = torch.zeros(6)
    unseen: Any = SimpleNamespace()
    return Guide(unseen, unseen, unseen, GUIDED, SizeIds(true, true, true), references=references)


def reference(**how: Any) -> ImageReference:
    adapter = ImageAdapter({})
    return ImageReference(adapter, torch.ones(16, 8), torch.zeros(16, 8), **{"weight": 1.0, "stop_at": 1.0, **how})


@pytest.mark.parametrize(("stop_at", "steps"), [(0.5, 14), (0.9, 21), (0.0, 0)])
def test_a_picture_acts_while_progress_in_timesteps_is_below_its_stop(stop_at: float, steps: int) -> None:
    """Of 30 Karras steps (fooocus-facts 0.5)."""
    run = sigma_schedule(spec(steps=30, sampler="dpmpp_2m_sde", schedule="karras"), sdxl_table())
    timesteps = [run.table.timestep(float(sigma)) for sigma in run.sigmas[:-1]]
    asks = [guide_of(reference(stop_at=stop_at)).evaluate(torch.zeros(4, 8, 8), 1.0, each) for each in timesteps]
    assert [len(ask.positive.images) for ask in asks] == [1] * steps + [0] * (30 - steps)


def test_the_negative_prompt_attends_to_no_picture_as_strongly() -> None:
    seen = reference(weight=0.7)
    ask: Evaluate = guide_of(seen).evaluate(torch.zeros(4, 8, 8), 1.0, 500)
    assert ask.negative is not None
    (shown,), (unseen,) = ask.positive.images, ask.negative.images
    assert shown.tokens is seen.tokens
    assert unseen.tokens is seen.negative
    assert shown.adapter is unseen.adapter
    assert shown.scale == unseen.scale == 0.7


# -- how often it is seen


class Counting(ImagePrompter):
    """Makes tokens of a picture's mean, and counts the pictures."""

    def __init__(self) -> None:
        self.seen = 0

    def tokens(self, pixels: Tensor, residency: Residency = RESIDENT) -> Tensor:
        self.seen += len(pixels)
        return pixels.float().mean(dim=(1, 2, 3))[:, None, None].expand(-1, 2, 3)


def tokens_of(stage: ImagePromptStage, prompter: ImagePrompter, pixels: Pixels) -> Tensor:
    answers: Answers[Tensor] = stage.run([SeePicture(prompter, pixels)])
    return answers.values[0]


def flat(value: int) -> Pixels:
    return np.full((224, 224, 3), value, np.uint8)


def test_a_picture_that_comes_twice_is_seen_once_a_kind() -> None:
    stage = ImagePromptStage(PlainDevice(torch.device("cpu")))
    one, other = Counting(), Counting()
    first = tokens_of(stage, one, flat(5))
    assert tokens_of(stage, one, flat(5)) is first
    assert (one.seen, float(first[0, 0])) == (1, 5.0)
    tokens_of(stage, other, flat(5))
    assert float(tokens_of(stage, one, flat(6))[0, 0]) == 6.0
    assert (one.seen, other.seen) == (2, 1)


def test_pictures_that_were_not_asked_for_lately_are_forgotten() -> None:
    stage, prompter = ImagePromptStage(PlainDevice(torch.device("cpu"))), Counting()
    for value in range(REMEMBERED + 1):
        tokens_of(stage, prompter, flat(value))
        tokens_of(stage, prompter, flat(0))
    assert prompter.seen == REMEMBERED + 1
    tokens_of(stage, prompter, flat(1))  # the oldest but the one that is always asked for
    assert prompter.seen == REMEMBERED + 2


def test_the_stage_sees_what_the_tower_and_the_resampler_say(pocket_family: Family) -> None:
    prompter = ImagePrompters(pocket_family, SizedLru(2**30)).get(["image_prompt"])["image_prompt"]
    with torch.inference_mode():
        found = tokens_of(ImagePromptStage(PlainDevice(torch.device("cpu"))), prompter, PHOTO)
        wanted = prompter.adapter.resampler(tower_features(prompter.tower, tower_input([PHOTO])))[0]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


# -- what is loaded


def test_nothing_is_loaded_before_it_is_needed_and_the_tower_once(pocket_family: Family) -> None:
    prompters = ImagePrompters(pocket_family, SizedLru(2**30))
    kinds: list[Part] = ["image_prompt", "face_prompt"]
    assert prompters.find([]) == {}
    assert prompters.find(kinds) is None
    first = prompters.get(kinds[:1])
    assert prompters.find(kinds[:1]) == first
    assert prompters.find(kinds) is None
    both = prompters.get(kinds)
    assert prompters.find(kinds) == both
    assert both["image_prompt"] is first["image_prompt"]
    assert both["image_prompt"].tower is both["face_prompt"].tower


def test_what_was_not_used_lately_makes_room_and_leaves_nothing_behind(pocket_family: Family) -> None:
    prompters, stage = ImagePrompters(pocket_family, SizedLru(1)), ImagePromptStage(PlainDevice(torch.device("cpu")))
    first = prompters.get(["image_prompt"])["image_prompt"]
    tokens_of(stage, first, PHOTO)
    gone = weakref.ref(first.adapter), weakref.ref(first.tower)
    prompters.get(["face_prompt"])
    assert prompters.find(["image_prompt"]) is None
    assert gone[0]() is first.adapter  # who still draws with it keeps it
    del first
    gc.collect()
    assert gone[0]() is None
    assert gone[1]() is not None  # the other kind has it too


def test_drawing_without_pictures_loads_nothing(pocket_family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    def loads(*_: object) -> None:
        raise AssertionError("a model of image prompts was loaded")

    monkeypatch.setattr("pipelines.weights.image_prompters.read_tower", loads)
    studio = Studio(pocket_family)
    try:
        studio.draw(spec())
        studio.draw(spec(pictures=(look(weight=0.0),)), pictures=[PHOTO])
    finally:
        studio.drawer.close()
