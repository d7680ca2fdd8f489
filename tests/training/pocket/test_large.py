"""Pictures of all sizes are learned as a run has them, some of them without the pooled vector."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.pocket.reader import Reader
from benchmarks.pocket.sampling import answer, size_ids
from pipelines.denoising.schedules import sdxl_table
from pipelines.weights.family import Family
from training.pocket import dataset, frozen_models, large
from training.pocket.dataset import FAINT
from training.pocket.frozen_models import FrozenModels
from training.pocket.large import BANDS, FORMATS, Call
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan

SIDE, BATCH = 64, 400
CLEAN = torch.linspace(-1, 1, 4 * 8 * 8).view(1, 4, 8, 8)
SAID, UNSAID = (torch.ones(1, 1, 3, 2), torch.ones(1, 1, 2)), (torch.zeros(1, 3, 2), torch.zeros(1, 2))


@pytest.fixture
def frozen(pocket_family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FrozenModels:
    monkeypatch.setattr(dataset, "PICTURES", {SIDE: 4})
    reader = Reader(pocket_family.tokenizers[0], pocket_family.text_encoders)
    unet = copy.deepcopy(pocket_family.unet).requires_grad_(False)
    return FrozenModels(reader, unet, RunDir.open(tmp_path, "pictures", torch.device("cpu")))


def _sigmas(timesteps: Tensor) -> Tensor:
    return sdxl_table().sigmas[timesteps][:, None, None, None]


def _learned(call: Call, monkeypatch: pytest.MonkeyPatch) -> float:
    """The loss of a desk where everything is the same picture, and is said in the same words."""
    monkeypatch.setattr(large, "TOLD", 1)
    torch.manual_seed(1)
    return float(large._Desk(CLEAN, SAID, UNSAID, call, BATCH).lesson())


def test_the_truth_is_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def right(x: Tensor, timesteps: Tensor, *_: Tensor) -> Tensor:
        sigma = _sigmas(timesteps)
        return (x * (1 + sigma**2).sqrt() - CLEAN) / sigma

    assert _learned(right, monkeypatch) < 1e-4
    assert _learned(lambda *given: right(*given) + 0.1, monkeypatch) > 0.01


def test_most_pictures_are_faint_in_the_strongest_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def call(x: Tensor, timesteps: Tensor, *_: Tensor) -> Tensor:
        sigma = _sigmas(timesteps)
        seen.append((x * (1 + sigma**2).sqrt() / CLEAN).mean(dim=(1, 2, 3)))
        return torch.zeros_like(x)

    monkeypatch.setattr(frozen_models, "noise_like", torch.zeros_like)
    monkeypatch.setattr(large, "BANDS", ((1.0, 13.0, 14.6),))
    _learned(call, monkeypatch)
    assert float((seen[0] < 0.35).float().mean()) == pytest.approx(FAINT, abs=0.07)
    assert float((seen[0] > 0.99).float().mean()) == pytest.approx(1 - FAINT, abs=0.07)


def test_noise_is_spread_over_its_bands() -> None:
    torch.manual_seed(1)
    timesteps, sigma = large._Desk(CLEAN, SAID, UNSAID, answer, 4_000)._levels()
    assert torch.equal(_sigmas(timesteps), sigma)
    for share, least, most in BANDS:
        inside = ((sigma > 0.98 * least) & (sigma < 1.02 * most)).float().mean()
        assert float(inside) == pytest.approx(share, abs=0.05)


def test_pooled_vectors_are_kept_back_and_some_captions_unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Tensor] = {}

    def call(x: Tensor, _timesteps: Tensor, context: Tensor, pooled: Tensor, _sizes: Tensor) -> Tensor:
        seen["said"], seen["pooled"] = context.mean(dim=(1, 2)), pooled.mean(dim=1)
        return torch.zeros_like(x)

    _learned(call, monkeypatch)
    assert float(seen["said"].mean()) == pytest.approx(1 - large.UNSAID, abs=0.06)
    assert float(seen["pooled"].mean()) == pytest.approx((1 - large.UNSAID) * (1 - large.UNPOOLED), abs=0.08)
    assert bool((seen["pooled"] <= seen["said"]).all())


def test_the_original_size_is_told_wrong_to_some_and_the_target_to_none(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def call(x: Tensor, _timesteps: Tensor, _context: Tensor, _pooled: Tensor, sizes: Tensor) -> Tensor:
        seen.append(sizes)
        return torch.zeros_like(x)

    _learned(call, monkeypatch)
    (sizes,) = seen
    assert set(sizes[:, 4:].flatten().tolist()) == {64.0}
    assert 0.3 < float((sizes[:, 0] == 64).float().mean()) < 0.7


def test_sizes_of_about_a_million_pixels_are_learned_upright_and_lying() -> None:
    assert {(width > height) - (width < height) for width, height in FORMATS[1024]} == {-1, 0, 1}
    assert all(abs(width * height / side**2 - 1) < 0.02 for side, sizes in FORMATS.items() for width, height in sizes)


def test_a_desk_has_what_is_drawn_and_several_captions_of_it(frozen: FrozenModels) -> None:
    desk = large._Desk.of(frozen, frozen.unet, (96, 64), 2)
    assert desk.latents.shape == (4, 4, 8, 12)
    context, pooled = desk.told
    assert context.shape[:2] == pooled.shape[:2] == (4, large.TOLD)
    assert len(context.flatten(0, 1).unique(dim=0)) > 8
    assert bool(desk.lesson().isfinite())


def test_the_whole_unet_computes_in_half_precision_and_learns_in_full(pocket_family: Family) -> None:
    unet: Any = copy.deepcopy(pocket_family.unet).requires_grad_(True)
    torch.manual_seed(1)
    x = torch.randn(2, 4, 16, 16)
    given = torch.tensor([900, 100]), torch.randn(2, 32, 160), torch.randn(2, 96), size_ids(x)
    half = large._Whole(unet)(x, *given)
    assert half.dtype == torch.bfloat16
    assert float((half - answer(unet, x, *given)).detach().abs().mean()) < 0.03
    half.float().square().mean().backward()
    assert all(parameter.dtype == torch.float32 and parameter.grad is not None for parameter in unet.parameters())


def test_a_graph_is_captured_with_cudnn_at_its_best(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bool]] = []

    def captured(*_: Any) -> None:
        seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark))

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", captured)
    on_a_gpu: Any = SimpleNamespace(is_cuda=True)
    large._captured(torch.nn.Linear(1, 1), (on_a_gpu,))
    large._captured(torch.nn.Linear(1, 1), (torch.zeros(1),))
    assert seen == [(True, True)]


def test_it_leaves_a_unet_whose_outermost_layers_are_as_they_were(
    frozen: FrozenModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "FORMATS", {SIDE: ((SIDE, SIDE), (SIDE + 32, SIDE))})
    monkeypatch.setattr(large, "BATCHES", {SIDE: 2})
    monkeypatch.setattr(large, "PLAN", Plan(steps=2, rate=1e-3, sides=(SIDE,)))
    monkeypatch.setattr(large, "TRIED", {SIDE: 2})
    monkeypatch.setattr(large, "TRIED_STEPS", 2)
    run_dir = RunDir.open(frozen.drawings.folder.parent, "large", torch.device("cpu"))
    large.train(run_dir, frozen)
    found = torch.load(run_dir.folder / "unet.pt", weights_only=True)
    before = frozen.unet.state_dict()
    changed = {name for name, tensor in found.items() if not torch.equal(tensor, before[name])}
    assert not any(name.startswith(large.FROZEN) for name in changed)
    assert len(changed) > 0.5 * len(found)
    assert '"shape_64"' in (run_dir.folder / "log.jsonl").read_text()
