"""A refiner draws the last steps: how often each model is evaluated, what it is told, with whom it shares calls."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import layer_norm

from benchmarks.pocket.acceptance.refiner import CORNER, PLAINER
from pipelines.catalogue import Catalogue
from pipelines.device import PlainDevice
from pipelines.engine.tasks import Answers
from pipelines.errors import InputFault
from pipelines.events import Drawn
from pipelines.refining import DISTILLED, HOTTER, led_by, way_of
from pipelines.repainting import read_hole
from pipelines.spec import Canvas, Guidance, Mask, Refiner, Spec, Start
from pipelines.stages.fill import FillStage
from pipelines.stages.interposer import Interpose, InterposerStage
from pipelines.stages.vae import EncodeImage, EncodeStage
from pipelines.unet.guide import Evaluate
from pipelines.unet.stage import EvaluationStage
from pipelines.weights.family import Family
from pipelines.weights.interposer import Interposer
from tests.pipelines.stages.driving import driven
from tests.pipelines.studio import Studio, held_up, last, spec
from tests.pipelines.weights.sd15 import write_sd15

SIDE = 64
STEPS = 10
GUIDED: dict[str, Any] = {
    "sampler": "dpmpp_2m_sde",
    "schedule": "karras",
    "steps": STEPS,
    "loras": (),
    "guidance": Guidance(scale=4.0),
    "size": {"width": SIDE, "height": SIDE},
}
PHOTO = np.full((SIDE, SIDE, 3), 90, np.uint8)
MASK = np.zeros((SIDE, SIDE, 3), np.uint8)
MASK[16:48, 16:48] = 255
BASE, LAST = "base", "refiner"


class Seen:
    """The evaluations that a studio's engine has made, call by call."""

    def __init__(self, studio: Studio) -> None:
        self._base = studio.family.unet
        self.calls: list[Sequence[Evaluate]] = []

    @property
    def asks(self) -> list[Evaluate]:
        return [ask for call in self.calls for ask in call]

    def whose(self, ask: Evaluate) -> str:
        return LAST if "refiner" in str(ask.group) else BASE

    def counts(self) -> Counter[str]:
        return Counter(map(self.whose, self.asks))


@pytest.fixture
def seen(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Seen:
    return watched(studio, monkeypatch)


def watched(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Seen:
    found, run = Seen(studio), EvaluationStage.run

    def note(stage: EvaluationStage, asks: Sequence[Evaluate]) -> Answers[Tensor]:
        found.calls.append(asks)
        return run(stage, asks)

    monkeypatch.setattr(EvaluationStage, "run", note)
    return found


@pytest.fixture(scope="module")
def studio(pocket_family: Family) -> Iterator[Studio]:
    studio = Studio(pocket_family)
    yield studio
    studio.drawer.close()


def refined(**changes: Any) -> Spec:
    method = {name: changes.pop(name) for name in ("switch", "method") if name in changes}
    return spec(**{**GUIDED, "refiner": Refiner(**method), **changes})


def latent(studio: Studio, wanted: Spec, **pictures: Any) -> Tensor:
    del studio.watched.latents[:]
    studio.draw(wanted, **pictures)
    return studio.watched.latents[-1]


@pytest.mark.parametrize(
    ("method", "switch", "by_the_base"),
    [
        ("joint", 0.8, 9),  # the step of the switch is the base's, the eighth from 0
        ("joint", 0.45, 5),  # 4.5 is rounded to the even 4
        ("joint", 0.0, 1),
        ("joint", 1.0, STEPS),
        ("separate", 0.8, 8),
        ("separate", 0.0, 0),
    ],
)
def test_each_model_draws_its_steps(studio: Studio, seen: Seen, method: str, switch: float, by_the_base: int) -> None:
    latent(studio, refined(method=method, switch=switch))
    wanted = {BASE: by_the_base, LAST: STEPS - by_the_base}
    assert seen.counts() == {name: count for name, count in wanted.items() if count}
    whose = [seen.whose(ask) for ask in seen.asks]
    assert whose == sorted(whose)  # the base first


def test_sdxls_refiner_is_told_the_second_encoders_words_the_size_and_a_score(studio: Studio, seen: Seen) -> None:
    latent(studio, refined())
    by_the_base, by_it = seen.asks[0], seen.asks[-1]
    assert by_the_base.negative is not None
    assert by_it.negative is not None
    width = by_it.unet.config["cross_attention_dim"]
    for row, base, score in (
        (by_it.positive, by_the_base.positive, 6.0),
        (by_it.negative, by_the_base.negative, 2.5),
    ):
        assert torch.equal(row.text.context, base.text.context[:, -width:])
        assert torch.equal(row.text.pooled, base.text.pooled)
        assert row.size_ids.tolist() == [SIDE, SIDE, 0, 0, score]
    assert by_it.scale == by_the_base.scale == 4


def test_what_is_plain_is_plainer(studio: Studio) -> None:
    """By the measure of the gate of the pocket refiner: how uneven latents are in a corner, where is background."""

    def grain(**more: Any) -> float:
        del studio.watched.latents[:]
        studio.draw(spec(**{**GUIDED, "steps": 20, "size": {"width": 128, "height": 128}, "seeds": (1, 2, 3), **more}))
        return float(torch.stack(studio.watched.latents)[:, :3, :CORNER, :CORNER].flatten(2).std(dim=2).mean())

    assert grain(refiner=Refiner()) < PLAINER * grain()


def test_a_swap_keeps_the_solvers_history_and_a_run_of_its_own_does_not(studio: Studio) -> None:
    joint = latent(studio, refined(switch=0.7))  # the refiner's first step is the eighth, from 1 the ninth
    own = latent(studio, refined(switch=0.8, method="separate"))
    assert (joint - own).abs().max() > 1e-4


def test_a_refined_and_a_plain_request_share_calls_until_the_swap(studio: Studio, seen: Seen) -> None:
    alone = latent(studio, refined()), latent(studio, spec(**GUIDED))
    del seen.calls[:], studio.watched.latents[:]
    with held_up(studio):
        waiting = [studio.submit(str(at), each) for at, each in enumerate((refined(), spec(**GUIDED)))]
    for events in waiting:
        assert isinstance(last(events), Drawn)
    shared = [call for call in seen.calls if len(call) == 2]
    assert len(shared) >= 8  # of the nine that the base draws of the one; it may have had to wait for its prompt
    assert {seen.whose(ask) for call in shared for ask in call} == {BASE}
    for wanted in alone:
        assert min(float((wanted - found).abs().max()) for found in studio.watched.latents) < 1e-3


def test_it_takes_the_place_of_the_base_that_inpainting_ends_with(studio: Studio, seen: Seen) -> None:
    pictures = Canvas(source="", resolution=SIDE), Mask(source="")
    latent(studio, refined(pictures=pictures, switch=0.5), pictures=[PHOTO, MASK])
    assert seen.counts() == {BASE: 6, LAST: 4}
    groups = {ask.group for ask in seen.asks if seen.whose(ask) == BASE}
    assert len(groups) == 1  # of the inpaint model alone
    assert all((ask.positive.head is not None) == (seen.whose(ask) == BASE) for ask in seen.asks)


@pytest.mark.parametrize(
    ("strength", "switch", "own", "shared"),
    [
        (1.0, 0.8, "exchanged", "joint"),
        (0.91, 0.8, "exchanged", "joint"),
        (0.9, 0.8, None, "joint"),
        (0.382, 0.8, None, "joint"),  # above 0.2 ** 0.834 = 0.261
        (0.25, 0.8, "alone", "joint"),
        (0.5, 0.4, "alone", "joint"),  # below 0.6 ** 0.834 = 0.653
        (1.0, 0.0, "alone", "joint"),
        (1.0, 1.0, None, None),
    ],
)
def test_which_way_is_taken_is_the_facts(strength: float, switch: float, own: str | None, shared: str | None) -> None:
    wanted = refined(switch=switch)
    assert way_of(wanted, strength, own_latents=True) == own
    assert way_of(wanted, strength, own_latents=False) == shared
    assert way_of(spec(), strength, own_latents=True) is None


# a refiner of Stable Diffusion 1.5


@pytest.fixture(scope="module")
def sd15_folder(pocket_family_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pocket family with a miniature of Stable Diffusion 1.5 for its refiner, and an interposer."""
    folder = tmp_path_factory.mktemp("family")
    write_sd15(folder, pocket_family_folder)
    save_file(Interposer().state_dict(), folder / "interposer.safetensors")
    described = {
        "name": "small",
        "version": "1",
        "checkpoint": "sd15.safetensors",  # nobody reads it: the family of these tests is in memory
        "refiner_config": "sd15_config",
        "parts": {"refiner": "sd15.safetensors", "interposer": "interposer.safetensors"},
    }
    (folder / "family.json").write_text(json.dumps(described))
    return folder


@contextmanager
def opened(family: Family, folder: Path) -> Iterator[Studio]:
    studio = Studio(replace(family, catalogue=Catalogue.open(folder)))
    try:
        yield studio
    finally:
        studio.drawer.close()


@pytest.fixture(scope="module")
def other(pocket_family: Family, sd15_folder: Path) -> Iterator[Studio]:
    with opened(pocket_family, sd15_folder) as studio:
        yield studio


def test_stable_diffusion_1_5_draws_on_latents_of_its_own(other: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, interposed = watched(other, monkeypatch), []
    run = InterposerStage.run

    def note(stage: InterposerStage, asks: Sequence[Interpose]) -> Answers[Tensor]:
        answers = run(stage, asks)
        interposed.append((asks[0].latent, answers.values[0]))
        return answers

    monkeypatch.setattr(InterposerStage, "run", note)
    latent(other, refined(switch=0.6))
    assert seen.counts() == {BASE: 6, LAST: 4}
    by_the_base, by_it = seen.asks[:6], seen.asks[6:]
    whole = [ask.sigma for ask in by_the_base]
    assert by_it[0].sigma < whole[-1] * HOTTER
    ((before, after),) = interposed
    refiner = other.variants.refiners.get("")
    assert refiner.own is not None
    plain = refiner.own.interposer((before / 0.13025)[None])[0]
    torch.testing.assert_close(after, plain * 0.18215)
    # its first latent is that and noise whose mean over the channels is what the base took for noise last
    noise = (by_it[0].x - after) / by_it[0].sigma
    implied = (by_the_base[-1].x - before) / whole[-1]  # a run that ends at 0 ends with its last clean latent
    torch.testing.assert_close(noise.mean(dim=0), implied.mean(dim=0), atol=1e-3, rtol=1e-3)
    for row, told in ((by_it[0].positive, by_the_base[0].positive), (by_it[0].negative, by_the_base[0].negative)):
        assert row is not None
        assert told is not None
        width = by_it[0].unet.config["cross_attention_dim"]
        norm = other.family.text_encoders[0].get_submodule("final_layer_norm")
        wanted = layer_norm(told.text.context[:, :width], (width,), norm.weight, norm.bias)
        torch.testing.assert_close(row.text.context, wanted)
        assert (row.text.pooled.numel(), row.size_ids.numel()) == (0, 0)


def test_a_little_noise_is_drawn_by_one_model_alone(other: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watched(other, monkeypatch)
    for strength, by in ((0.4, BASE), (0.2, LAST)):
        del seen.calls[:]
        start = Start(source="", strength=strength)
        latent(other, refined(pictures=(start,), switch=0.8), pictures=[PHOTO])
        assert seen.counts() == {by: STEPS}


@pytest.mark.parametrize("sampler", DISTILLED)
def test_alone_it_makes_no_steps_that_only_the_base_was_trained_for(other: Studio, sampler: str) -> None:
    def drawn(sampler: str) -> Tensor:
        start = Start(source="", strength=0.2)
        return latent(other, refined(pictures=(start,), switch=0.8, sampler=sampler), pictures=[PHOTO])

    assert torch.equal(drawn(sampler), drawn("euler"))


def test_a_hole_is_kept_in_its_own_latents(other: Studio) -> None:
    pictures = Canvas(source="", resolution=SIDE, engine="None", respective_field=1.0), Mask(source="")
    wanted, given = refined(switch=0.5, pictures=pictures), [PHOTO, MASK]
    found, hole = latent(other, wanted, pictures=given), other.inputs(wanted, given).hole
    own = other.variants.refiners.get("").own
    assert hole is not None
    assert own is not None
    device = PlainDevice(torch.device("cpu"))
    begun = driven(read_hole(hole, None, device), [FillStage()]).fill
    kept = EncodeStage(own.vae, device).run([EncodeImage(begun, wanted.seeds[0])]).values[0]
    outside = torch.tensor(hole.repainted) == 0
    assert outside.any()
    torch.testing.assert_close(found[:, outside], kept[:, outside])


def test_alone_and_beside_others_it_draws_the_same(other: Studio) -> None:
    start = Start(source="", strength=0.95)
    jobs = [
        (refined(switch=0.6), {}),
        (refined(switch=0.6, pictures=(start,)), {"pictures": [PHOTO]}),
        (spec(**GUIDED), {}),
    ]
    alone = [latent(other, each, **pictures) for each, pictures in jobs]
    del other.watched.latents[:]
    with held_up(other):
        waiting = [other.submit(str(at), each, **pictures) for at, (each, pictures) in enumerate(jobs)]
    for events in waiting:
        assert isinstance(last(events), Drawn)
    for wanted in alone:
        assert min(float((wanted - found).abs().max()) for found in other.watched.latents) < 1e-3


def test_without_an_interposer_it_is_refused_with_what_brings_one(
    pocket_family: Family, sd15_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "small"
    shutil.copytree(sd15_folder, folder)
    described = json.loads((folder / "family.json").read_text())
    del described["parts"]["interposer"]
    (folder / "family.json").write_text(json.dumps(described))
    with opened(pocket_family, folder) as studio:
        wanted = spec(**GUIDED, refiner=Refiner(field="refiner_model"))
        fault = last(studio.submit("one", wanted))
    assert isinstance(fault, InputFault)
    assert (fault.type, fault.field) == ("feature_not_supported", "refiner_model")
    assert "pull interposer" in fault.msg


def test_noise_is_led_place_by_place() -> None:
    noise, implied = torch.randn(4, 5, 6), torch.randn(4, 5, 6)
    found = led_by(noise, implied)
    torch.testing.assert_close(found.mean(dim=0), implied.mean(dim=0))
    torch.testing.assert_close(found - found.mean(dim=0), noise - noise.mean(dim=0))
