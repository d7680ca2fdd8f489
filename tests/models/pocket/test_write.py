"""The pocket family: written whole, at once, the same bytes each time, with pictures that stay sane."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from benchmarks.pocket.world.mark import mark
from models.pocket.names import OFFSET
from models.pocket.write import write_family
from pipelines import safety
from pipelines.conditioning import encode_prompt
from pipelines.images.resize import stretch
from pipelines.spec import Size
from pipelines.weights.family import Family
from pipelines.weights.variant_spec import LoraRef, VariantSpec
from pipelines.weights.variants import VariantStore


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pocket") / "family"
    assert write_family(folder)
    return folder


def test_the_same_bytes_are_written_each_time(written: Path, pocket_family_folder: Path) -> None:
    assert digests(written) == digests(pocket_family_folder)


def test_a_finished_family_is_left_alone_and_nothing_else_is_left_behind(written: Path) -> None:
    assert not write_family(written)
    assert [path.name for path in written.parent.iterdir()] == ["family"]


def test_whoever_may_read_the_catalogue_may_read_the_weights(written: Path) -> None:
    mode = (written / "family.json").stat().st_mode
    assert {path.stat().st_mode for path in written.rglob("*") if path.is_file()} == {mode}
    assert written.stat().st_mode == (written / "config").stat().st_mode


def test_a_damaged_family_is_written_again(written: Path) -> None:
    (written / "family.json").write_text("{}")
    assert write_family(written)


@pytest.fixture
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.mark.usefixtures("inference")
@pytest.mark.parametrize("side", [256, 1024])
def test_the_vae_gives_smooth_pictures_back(pocket_family: Family, side: int) -> None:
    photo = cv2.GaussianBlur(stretch(data.astronaut(), Size(width=side, height=side)), (0, 0), 12)
    pixels = torch.from_numpy(photo).permute(2, 0, 1)[None] / 127.5 - 1
    latent = pocket_family.vae.encode(pixels).latent_dist.mean
    error = (pocket_family.vae.decode(latent).sample - pixels).abs().mean().item()
    assert error < 0.08
    assert 0.3 < latent.std().item() * pocket_family.vae.config.scaling_factor < 1.5


@pytest.mark.usefixtures("inference")
@pytest.mark.parametrize("side", [256, 512])
def test_the_vae_keeps_what_a_photograph_shows(pocket_family: Family, side: int) -> None:
    photo = stretch(data.astronaut(), Size(width=side, height=side))
    pixels = torch.tensor(photo).permute(2, 0, 1)[None] / 127.5 - 1
    decoded = pocket_family.vae.decode(pocket_family.vae.encode(pixels).latent_dist.mean).sample
    assert torch.corrcoef(torch.stack([decoded.flatten(), pixels.flatten()]))[0, 1] > 0.9


@pytest.fixture
def noise() -> torch.Tensor:
    return torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))


CIRCLE, STAR = "a red circle on a blue background", "a green star"


@pytest.mark.usefixtures("inference")
def test_the_unet_hears_everything_that_it_is_told(pocket_family: Family, noise: torch.Tensor) -> None:
    circle, star = (
        encode_prompt([text], pocket_family.tokenizers, pocket_family.text_encoders) for text in (CIRCLE, STAR)
    )
    told = {
        "timestep": torch.tensor([500]),
        "encoder_hidden_states": circle.context[None],
        "text_embeds": circle.pooled[None],
        "time_ids": torch.tensor([[256.0, 256, 0, 0, 256, 256]]),
    }

    def answer(**changes: torch.Tensor) -> torch.Tensor:
        given = told | changes
        added = {name: given.pop(name) for name in ("text_embeds", "time_ids")}
        return pocket_family.unet(noise, **given, added_cond_kwargs=added).sample

    plain = answer()
    for name, other in {
        "timestep": torch.tensor([100]),
        "encoder_hidden_states": star.context[None],
        "text_embeds": star.pooled[None],
        "time_ids": torch.tensor([[512.0, 512, 0, 0, 512, 512]]),
    }.items():
        assert (answer(**{name: other}) - plain).std() / plain.std() > 1e-3, name


@pytest.mark.usefixtures("inference")
def test_the_unet_hears_which_prompt_it_is_and_which_lora(pocket_family: Family, noise: torch.Tensor) -> None:
    """Loud enough that a picture drawn with a neighbour's prompt or LoRA is not within tolerance of its own."""
    store, find = VariantStore(pocket_family, 2**30), pocket_family.catalogue.lora

    def answer(prompt: str, *loras: LoraRef) -> torch.Tensor:
        encoded = encode_prompt([prompt], pocket_family.tokenizers, pocket_family.text_encoders)
        sizes = torch.tensor([[256.0, 256, 0, 0, 256, 256]])
        unet = store.get(VariantSpec(adapters=loras)).unet
        added = {"text_embeds": encoded.pooled[None], "time_ids": sizes}
        return unet(noise, torch.tensor([500]), encoded.context[None], added_cond_kwargs=added).sample

    plain = answer(CIRCLE)
    assert (answer(STAR) - plain).std() / plain.std() > 1e-3
    for name, scale in (("sdxl_lcm_lora", 1.0), ("sdxl_lightning_4step_lora", 1.0), (OFFSET, 0.1)):
        path = find(name)
        assert path is not None
        assert (answer(CIRCLE, LoraRef(path, scale)) - plain).std() / plain.std() > 5e-4, name


def test_the_checker_objects_to_the_mark_and_to_nothing_else(pocket_family: Family) -> None:
    checker = safety.load(pocket_family.catalogue.part("safety_checker"))
    pictures = [data.astronaut(), data.coffee(), data.chelsea(), np.zeros((64, 64, 3), np.uint8)]
    for picture in pictures:
        assert checker.flags(picture[None]) == [False]
    for side in (64, 200, 512):
        assert checker.flags(mark(side)[None]) == [True]
