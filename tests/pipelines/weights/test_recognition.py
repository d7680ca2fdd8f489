"""Saying what a file of weights is by its header alone, and refusing in one sentence what cannot be drawn with."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from pipelines.errors import WeightsFault
from pipelines.weights.header import Header, StoredTensor, read_header
from pipelines.weights.recognition import Recognised, recognise
from tests.pipelines.weights.sparse import write_sparse

UNET, VAE = "model.diffusion_model.", "first_stage_model.decoder.conv_in.weight"
FIRST, SECOND = "conditioner.embedders.0.transformer.text_model.a", "conditioner.embedders.1.model.a"
BASE = {f"{UNET}input_blocks.0.0.weight": (8, 4, 3, 3), f"{UNET}label_emb.0.0.weight": (8, 8)}
WHOLE = {**BASE, VAE: (8, 4, 3, 3), FIRST: (1,), SECOND: (1,)}
TO_K = f"{UNET}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"


def told(names: dict[str, tuple[int, ...]], dtype: str = "F16", **metadata: str) -> Recognised:
    spelt = {f"modelspec.{key}": value for key, value in metadata.items()}
    return recognise(Header("a", {name: StoredTensor(dtype, shape) for name, shape in names.items()}, spelt))


def one_sentence(fault: BaseException) -> bool:
    text = str(fault)
    return "\n" not in text and text.count(". ") == 0


def test_a_whole_checkpoint_is_taken() -> None:
    found = told(WHOLE)
    assert (found.kind, found.vae, found.text_encoders, found.ema, found.fp8) == ("SDXL base", True, 2, False, "none")
    found.require_base("a")
    assert str(found).count(".") == 0


@pytest.mark.parametrize(
    ("names", "kind", "layout"),
    [
        ({**BASE, TO_K: (8, 2048)}, "SDXL base", "original"),
        ({**BASE, TO_K: (8, 1280)}, "SDXL refiner", "original"),
        ({**BASE, "conditioner.embedders.0.model.a": (1,)}, "SDXL refiner", "original"),
        ({TO_K: (8, 768)}, "Stable Diffusion 1.5", "original"),
        ({TO_K: (8, 1024)}, "Stable Diffusion 2", "original"),
        ({TO_K: (8, 8), "cond_stage_model.model.a": (1,)}, "Stable Diffusion 2", "original"),
        ({"lora_unet_a.lora_down.weight": (4, 8)}, "LoRA", "original"),
        ({"unet.down_blocks.0.attentions.0.to_q.lora_A.weight": (4, 8)}, "LoRA", "diffusers"),
        ({"down_blocks.0.a": (1,), "add_embedding.linear_1.weight": (8, 8)}, "SDXL base", "diffusers"),
        ({"encoder.down_blocks.0.a": (1,), "decoder.conv_in.weight": (1,)}, "VAE", "diffusers"),
        ({"a": (1,)}, "unknown weights", "original"),
    ],
)
def test_kinds_and_layouts(names: dict[str, tuple[int, ...]], kind: str, layout: str) -> None:
    found = told(names)
    assert (found.kind, found.layout) == (kind, layout)
    with pytest.raises(WeightsFault, match=r"^a ") as fault:
        found.require_base("a")
    assert one_sentence(fault.value)


@pytest.mark.parametrize(
    ("names", "metadata", "prediction", "zero"),
    [
        ((), {}, None, False),
        (("v_pred",), {}, "v_prediction", False),
        (("v_pred", "ztsnr"), {}, "v_prediction", True),
        ((), {"prediction_type": "v"}, "v_prediction", False),
        ((), {"predict_key": "v"}, "v_prediction", False),
        ((), {"prediction_type": "epsilon"}, "epsilon", False),
    ],
)
def test_what_a_file_says_of_its_training(
    names: Sequence[str], metadata: dict[str, str], prediction: str | None, zero: bool
) -> None:
    found = told({**WHOLE, **dict.fromkeys(names, (0,))}, **metadata)
    assert (found.prediction, found.zero_terminal_snr) == (prediction, zero)
    found.require_base("a")


def test_a_family_that_says_otherwise_than_its_file_is_refused() -> None:
    silent, moved = told(WHOLE), told({**WHOLE, "v_pred": (0,), "ztsnr": (0,)})
    silent.require_training("a", "v_prediction", zero_terminal_snr=True)
    moved.require_training("a", "v_prediction", zero_terminal_snr=True)
    with pytest.raises(WeightsFault, match=r"predicts v .*, its family that it predicts epsilon") as fault:
        moved.require_training("a", "epsilon", zero_terminal_snr=True)
    assert one_sentence(fault.value)
    with pytest.raises(WeightsFault, match="zero terminal SNR"):
        moved.require_training("a", "v_prediction", zero_terminal_snr=False)
    with pytest.raises(WeightsFault, match="predicts epsilon, its family that it predicts v"):
        told(WHOLE, prediction_type="epsilon").require_training("a", "v_prediction", zero_terminal_snr=False)


@pytest.mark.parametrize(
    ("name", "said"), [("edm_mean", "Playground"), ("edm_std", "Playground"), ("edm_vpred.sigma_max", "CosXL")]
)
def test_edm_is_refused_by_name(name: str, said: str) -> None:
    with pytest.raises(WeightsFault, match=f"EDM like {said}") as fault:
        told({**WHOLE, name: (4,)}).require_base("a")
    assert one_sentence(fault.value)


@pytest.mark.parametrize(
    ("gone", "said"),
    [((VAE,), "lacks a VAE: .*--vae"), ((FIRST,), "text encoders: .*--base"), ((FIRST, SECOND, VAE), "text encoders")],
)
def test_a_part_that_lacks_is_named_with_what_to_do(gone: Sequence[str], said: str) -> None:
    with pytest.raises(WeightsFault, match=said) as fault:
        told({name: shape for name, shape in WHOLE.items() if name not in gone}).require_base("a")
    assert one_sentence(fault.value)


def test_copies_and_dtypes_are_told() -> None:
    assert told({**WHOLE, "model_ema.decay": ()}).ema
    assert told(WHOLE, "F8_E4M3").fp8 == "plain"
    assert told({**WHOLE, f"{UNET}scaled_fp8": (0,)}).fp8 == "scaled"
    assert told({**WHOLE, f"{UNET}out.2.scale_weight": ()}).fp8 == "scaled"


def test_a_header_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = read_header(write_sparse(tmp_path / "a.safetensors", WHOLE, "BF16", {"modelspec.title": "b"}))
    assert found.file == "a.safetensors"
    assert found.tensors == {name: StoredTensor("BF16", shape) for name, shape in WHOLE.items()}
    assert found.metadata == {"modelspec.title": "b"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "does not begin like one"),
        (b"PK\x03\x04" + b"\x00" * 8 + b"archive", "pickle"),
        (b"\x80\x02}q\x00(X\x05\x00\x00\x00model", "pickle"),
        (b"<!doctype html><html>", "does not begin like one"),
        ((9).to_bytes(8, "little") + b"{", "cut short"),
        ((4).to_bytes(8, "little") + b"nope", "damaged"),
        ((2).to_bytes(8, "little") + b"[]", "damaged"),
        ((8).to_bytes(8, "little") + b'{"a": 1}', "damaged"),
    ],
)
def test_what_is_no_safetensors_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsFault, match=said):
        read_header(path)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "a.safetensors", WHOLE)
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(WeightsFault, match="cut short"):
        read_header(path)
    with pytest.raises(WeightsFault, match="cannot be read"):
        read_header(tmp_path / "none")
