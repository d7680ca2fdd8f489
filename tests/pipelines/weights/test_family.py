"""A family in memory: models and tokenizers that belong together."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.conditioning import encode_prompt
from pipelines.errors import WeightsFault
from pipelines.weights.family import LEGACY_END, Family, load_family, vae_dtype
from tests.pipelines.studio import Studio, spec


@pytest.fixture
def copy(pocket_family_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pocket_family_folder, tmp_path / "family"))


def pooled(family: Family) -> torch.Tensor:
    with torch.inference_mode():
        return encode_prompt(["a red circle"], family.tokenizers, family.text_encoders).pooled


def load(folder: Path) -> Family:
    return load_family(folder, torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("text", ["a red circle", "Ünïcode ☃ and 日本語", "zyxwvut 12345 !?", ""])
def test_any_text_is_tokenised_without_loss(pocket_family: Family, text: str) -> None:
    for tokenizer in pocket_family.tokenizers:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.decode(ids).replace(" ", "") == text.lower().replace(" ", "")


def test_known_words_are_single_tokens(pocket_family: Family) -> None:
    ids = pocket_family.tokenizers[0]("red circle on a blue background", add_special_tokens=False).input_ids
    assert len(ids) == 6


def test_the_two_pads_are_those_of_sdxl(pocket_family: Family) -> None:
    first, second = pocket_family.tokenizers
    assert first.pad_token_id == first.eos_token_id
    assert second.pad_token_id == 0


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json"])
def test_an_incomplete_tokenizer_is_refused(copy: Path, name: str) -> None:
    (copy / "config" / "tokenizer_2" / name).unlink()
    with pytest.raises(WeightsFault, match=name):
        load(copy)


def test_a_tokenizer_of_another_vocabulary_is_refused(copy: Path) -> None:
    path = copy / "config" / "tokenizer" / "vocab.json"
    ids = json.loads(path.read_text())
    path.write_text(json.dumps(ids | {"extra": len(ids)}))
    with pytest.raises(WeightsFault, match="tokens"):
        load(copy)


def test_a_tokenizer_without_the_row_length_is_refused(copy: Path) -> None:
    path = copy / "config" / "tokenizer" / "tokenizer_config.json"
    about = json.loads(path.read_text())
    del about["model_max_length"]
    path.write_text(json.dumps(about))
    with pytest.raises(WeightsFault, match="model_max_length"):
        load(copy)


@pytest.mark.parametrize("end", [LEGACY_END, 7])
def test_the_end_token_of_sdxls_own_configs_is_understood_and_no_other(
    pocket_family: Family, copy: Path, end: int
) -> None:
    """They say 2, by which transformers pools at the largest id; that is their end token."""
    path = copy / "config" / "text_encoder_2" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": end}))
    if end != LEGACY_END:
        with pytest.raises(WeightsFault, match="pools at another token"):
            load(copy)
        return
    found = load(copy)
    assert torch.equal(pooled(found), pooled(pocket_family))


def test_other_loaders_of_this_layout_can_tell_the_text_encoders_apart(pocket_family: Family) -> None:
    """diffusers goes by their widths, and takes a second one of fewer than ten layers for Stable Diffusion 1's."""
    first, second = (encoder.config for encoder in pocket_family.text_encoders)
    assert first.hidden_size != second.hidden_size
    assert second.num_hidden_layers >= 10


@pytest.fixture(scope="module")
def half(pocket_family_folder: Path) -> Family:
    return load_family(pocket_family_folder, torch.device("cpu"), torch.bfloat16)


def test_each_model_has_a_dtype_of_its_own(half: Family) -> None:
    assert half.dtype is half.unet.dtype is torch.bfloat16
    assert [model.dtype for model in (half.vae, *half.text_encoders)] == [torch.float32] * 3


@pytest.mark.parametrize(
    ("device", "unet", "upcast", "vae"),
    [
        ("cpu", torch.float16, False, torch.float32),
        ("cuda", torch.float16, True, torch.bfloat16),
        ("cuda", torch.float16, False, torch.float16),
        ("cuda", torch.bfloat16, True, torch.bfloat16),
        ("cuda", torch.bfloat16, False, torch.bfloat16),
        ("cuda", torch.float32, True, torch.float32),
    ],
)
def test_a_vae_that_overflows_is_never_run_in_float16(
    device: str, unet: torch.dtype, upcast: bool, vae: torch.dtype
) -> None:
    assert vae_dtype({"force_upcast": upcast}, torch.device(device), unet) is vae
    if upcast:
        assert vae_dtype({}, torch.device(device), unet) is vae


def test_a_unet_in_bfloat16_draws_nearly_the_picture_of_float32(pocket_family: Family, half: Family) -> None:
    pictures = []
    for family in (pocket_family, half):
        studio = Studio(family)
        pictures.append(studio.draw(spec()).astype(float))
        studio.drawer.close()
    difference = abs(pictures[0] - pictures[1])
    assert 0 < difference.mean() < 4


def marked(folder: Path, **markers: torch.Tensor) -> None:
    path = folder / "pocket_xl.safetensors"
    save_file(load_file(path) | markers, path)


def says(folder: Path, **changes: object) -> None:
    path = folder / "family.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_a_checkpoint_says_of_its_training_is_held_against_the_family(copy: Path) -> None:
    marked(copy, v_pred=torch.zeros(0), ztsnr=torch.zeros(0))
    with pytest.raises(WeightsFault, match=r"predicts v .*, its family that it predicts epsilon"):
        load(copy)
    says(copy, prediction="v_prediction")
    with pytest.raises(WeightsFault, match="zero terminal SNR"):
        load(copy)
    says(copy, zero_terminal_snr=True)
    assert load(copy).catalogue.file.prediction == "v_prediction"


def test_edm_is_refused(copy: Path) -> None:
    marked(copy, edm_mean=torch.zeros(4), edm_std=torch.ones(4))
    with pytest.raises(WeightsFault, match=r"Playground v2\.5"):
        load(copy)
