"""Later parts are trained from a fresh clone with what is shipped, or with what was trained here."""

from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from benchmarks.pocket.latents import all_latents
from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.scenes import Scene, Thing
from models.pocket.trained import trained
from pipelines.weights.family import Family
from training.pocket import dataset, frozen_models
from training.pocket.dataset import noise_like, things
from training.pocket.frozen_models import THINGS, FrozenModels, Noised, counts, finished_unet
from training.pocket.run_dir import RunDir

STAGES = ("pictures", "large")
CIRCLE = Scene((Thing("circle", "red", "big", "left"),), "blue")


@pytest.fixture
def tokenizer(pocket_family: Family) -> CLIPTokenizer:
    return pocket_family.tokenizers[0]


def test_a_fresh_clone_trains_with_what_is_shipped(
    tmp_path: Path, tokenizer: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "PICTURES", {128: 2})
    frozen = FrozenModels.open(RunDir.open(tmp_path, "canny", torch.device("cpu")), tmp_path, tokenizer, STAGES)
    found = frozen.unet.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in trained("unet").items())
    for encoder, part in zip(frozen.reader.encoders, ("text_encoder", "text_encoder_2"), strict=True):
        found = encoder.state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in trained(part).items())
    assert frozen.drawn(128).latents.shape == (2, 4, 16, 16)


def test_what_was_trained_here_goes_before_it(tmp_path: Path, tokenizer: CLIPTokenizer) -> None:
    own = {name: tensor + 1 for name, tensor in trained("unet").items()}
    for part in ("texts", "pictures"):
        (tmp_path / part).mkdir()
    torch.save(own, tmp_path / "pictures" / "unet.pt")
    torch.save([trained("text_encoder"), trained("text_encoder_2")], tmp_path / "texts" / "encoders.pt")
    frozen = FrozenModels.open(RunDir.open(tmp_path, "canny", torch.device("cpu")), tmp_path, tokenizer, STAGES)
    found = frozen.unet.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in own.items())


def test_the_last_of_the_unets_stages_is_taken(tmp_path: Path) -> None:
    assert finished_unet(tmp_path, STAGES) is None
    for part in STAGES:
        (tmp_path / part).mkdir()
        (tmp_path / part / "unet.pt").touch()
        assert finished_unet(tmp_path, STAGES) == tmp_path / part / "unet.pt"
    assert finished_unet(tmp_path, stages=("pictures",)) == tmp_path / "pictures" / "unet.pt"


def test_large_pictures_alone_leave_the_shipped_text_encoders(tmp_path: Path, tokenizer: CLIPTokenizer) -> None:
    own = {name: tensor + 1 for name, tensor in trained("unet").items()}
    for part in ("texts", "large"):
        (tmp_path / part).mkdir()
    (tmp_path / "texts" / "encoders.pt").write_bytes(b"of another UNet")
    torch.save(own, tmp_path / "large" / "unet.pt")
    frozen = FrozenModels.open(RunDir.open(tmp_path, "canny", torch.device("cpu")), tmp_path, tokenizer, STAGES)
    found = frozen.unet.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in own.items())


def test_text_encoders_without_their_unet_are_left_alone(tmp_path: Path, tokenizer: CLIPTokenizer) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "encoders.pt").write_bytes(b"of another UNet")
    FrozenModels.open(RunDir.open(tmp_path, "canny", torch.device("cpu")), tmp_path, tokenizer, STAGES)


def test_things_count_more_than_the_background() -> None:
    found = counts(all_latents([draw(CIRCLE, 256, 256)]))[0, 0]
    assert found[16, 8] == THINGS
    assert found[0, 0] == found[16, 28] == 1
    assert set(found.flatten().tolist()) == {1.0, THINGS}


def test_one_stray_corner_does_not_make_the_background_a_thing() -> None:
    latents = all_latents([draw(CIRCLE, 256, 256)])
    wanted = things(latents)
    latents[:, :, 0, 0] += 1
    found = things(latents)
    assert found[0, 0, 0]
    assert bool((found == wanted).flatten()[1:].all())


def test_a_loss_counts_as_it_is_told() -> None:
    torch.manual_seed(1)
    noised = Noised.of(torch.zeros(2, 4, 8, 8), 1.0, 1.0001)
    off = noised.noise.clone()
    off[:, :, 0, 0] += 1
    heavy = torch.ones(2, 1, 8, 8)
    heavy[:, :, 0, 0] = 3
    assert noised.loss(noised.noise) == 0
    assert noised.loss(off, heavy) == pytest.approx(3 * float(noised.loss(off)))


def test_what_is_known_in_a_run_is_there_from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_models, "noise_like", torch.zeros_like)
    monkeypatch.setattr(dataset, "FAINT", 1.0)
    clean, unknown = torch.ones(20, 4, 8, 8), torch.zeros(20, 1, 8, 8)
    unknown[:, :, :, 4:] = 1
    x = Noised.of(clean, 13.0, 14.0, unknown).x * (1 + 13.5**2) ** 0.5
    assert float(x[..., :4].min()) > 0.9
    assert float(x[..., 4:].max()) < 0.4
    everywhere = Noised.of(clean, 13.0, 14.0)
    assert float(everywhere.x.max()) * 13.5 < 0.4
    assert torch.allclose(everywhere.x * (1 + 13.5**2) ** 0.5 - 13.5 * everywhere.noise, clean, atol=0.1)


def test_noise_has_a_share_that_channels_have_in_common() -> None:
    torch.manual_seed(1)
    means = noise_like(torch.zeros(200, 4, 64, 64)).mean(dim=(2, 3))
    assert 0.08 < float(means.std()) < 0.12  # white noise alone: 1 / 64
