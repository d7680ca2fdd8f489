"""What of LoRA files is refused, and in which words: nothing is applied in part without a word."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pipelines.errors import InputFault
from pipelines.weights.lora.matching import Targets
from pipelines.weights.lora.reading import read_lora
from tests.pipelines.weights import tiny

PATH = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
QUERY = f"lora_unet_{PATH.replace('.', '_')}"
ORIGINAL = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
KEY = QUERY.replace("to_q", "to_k")
MATRIX = torch.zeros(16, 16)

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def targets() -> Targets:
    return Targets(tiny.unet(), tiny.text_encoders())


def lora(layer: str, down: str = "lora_down.weight", up: str = "lora_up.weight", width: int = 16) -> Tensors:
    return {f"{layer}.{down}": torch.ones(2, width), f"{layer}.{up}": torch.ones(16, 2)}


def save(folder: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> Path:
    save_file({name: each.clone() for name, each in tensors.items()}, folder / "a.safetensors", metadata)
    return folder / "a.safetensors"


@pytest.mark.parametrize(
    ("kind", "tensors"),
    [
        ("GLoRA", {f"{QUERY}.{part}.weight": MATRIX for part in ("a1", "a2", "b1", "b2")}),
        ("OFT", {f"{QUERY}.oft_blocks": torch.zeros(4, 4, 4), f"{QUERY}.alpha": torch.ones(())}),
        ("OFT", {f"unet.{PATH}.oft_R.weight": MATRIX}),
        ("BOFT", {f"unet.{PATH}.boft_R": MATRIX}),
        (r"\(IA\)3", {f"{QUERY}.weight": MATRIX[0], f"{QUERY}.on_input": torch.ones(())}),
        (r"\(IA\)3", {f"unet.{PATH}.ia3_l": MATRIX[0]}),
        ("LyCORIS' own way", lora(QUERY.replace("lora_unet", "lycoris"))),
        (
            "early 2023",
            lora("text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora", "down.weight", "up.weight", 8),
        ),
        ("replaces", {f"{QUERY}.set_weight": MATRIX}),
        ("replaces", {**lora(QUERY), f"{QUERY}.reshape_weight": torch.ones(2)}),
    ],
)
def test_kinds_without_a_formula_here_are_refused_by_their_names(tmp_path: Path, kind: str, tensors: Tensors) -> None:
    with pytest.raises(InputFault, match=f"This LoRA is .*{kind}.* not supported") as caught:
        read_lora(save(tmp_path, tensors))
    assert caught.value.type == "feature_not_supported"


@pytest.mark.parametrize(
    ("said", "more"),
    [
        ("lacks up", {f"{KEY}.lora_down.weight": torch.ones(2, 16)}),
        ("lacks down", {f"{KEY}.lora_up.weight": torch.ones(16, 2)}),
        ("lacks down", {f"{KEY}.lora_mid.weight": torch.ones(2, 2, 3, 3)}),
        ("has alpha and no matrices", {f"{KEY}.alpha": torch.ones(())}),
        ("has dora_scale and no matrices", {f"{KEY}.dora_scale": torch.ones(16, 1)}),
        ("has up_bias and no matrices", {f"{KEY}.lora_up.bias": torch.ones(16)}),
        ("is LoRA and LoHa at once", {f"{QUERY}.hada_w1_a": MATRIX}),
        ("lacks hada_w2_b", {f"{KEY}.hada_{part}": MATRIX for part in ("w1_a", "w1_b", "w2_a")}),
        ("only one of hada_t1", {f"{KEY}.hada_{part}": MATRIX for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1")}),
        ("lacks lokr_w1_a", {f"{KEY}.lokr_w2": MATRIX}),
        ("has lokr_w1 and lokr_w1_b at once", {f"{KEY}.lokr_{part}": MATRIX for part in ("w1", "w1_b", "w2")}),
        ("do not fit each other", {f"{KEY}.lora_down.weight": MATRIX, f"{KEY}.lora_up.weight": torch.ones(16, 2)}),
        ("has up_bias of shape", {**lora(KEY), f"{KEY}.lora_up.bias": torch.ones(16, 1)}),
        ("has down of dtype torch.int8", {name: each.to(torch.int8) for name, each in lora(KEY).items()}),
        ("has alpha of dtype", {**lora(KEY), f"{KEY}.alpha": torch.ones(2)}),
        ("dora_scale of shape", {**lora(KEY), f"{KEY}.dora_scale": torch.ones(16, 16)}),
        ("lora_later.weight is of no known kind", {f"{QUERY}.lora_later.weight": torch.ones(2)}),
        ("brings the embedding mine", {"bundle_emb.mine.string_to_param.*": torch.ones(1, 8)}),
        ("brings the embedding mine", {"bundle_emb.mine.clip_l": torch.ones(1, 8)}),
    ],
)
def test_a_layer_that_is_no_whole_one_is_refused_and_left_out_by_force(
    tmp_path: Path, targets: Targets, said: str, more: Tensors
) -> None:
    file = read_lora(save(tmp_path, {**lora(f"unet.{PATH.replace('to_q', 'to_v')}"), **lora(QUERY), **more}))
    with pytest.raises(InputFault, match=f"cannot be applied as a whole: .*{said}") as caught:
        targets.match(file)
    assert caught.value.type == "feature_not_supported"
    forced = targets.match(file, force=True)
    assert set(more) <= set(forced.unmatched)
    assert ("unet", f"{PATH.replace('to_q', 'to_v')}.weight") in forced.layers
    assert forced.forced


@pytest.mark.parametrize("more", [lora(ORIGINAL), lora(f"unet.{PATH}", "lora_A.weight", "lora_B.weight")])
def test_a_layer_under_two_names_is_refused(tmp_path: Path, targets: Targets, more: Tensors) -> None:
    with pytest.raises(InputFault, match=r"to_q.* twice: by \S*lora_\S* and by \S*lora_"):
        targets.match(read_lora(save(tmp_path, {**lora(QUERY), **more})), force=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e5m2])
@pytest.mark.parametrize("part", ["lora_down.weight", "lora_up.weight", "alpha"])
def test_numbers_that_are_not_finite_are_refused_by_the_name_of_their_tensor(
    tmp_path: Path, value: float, dtype: torch.dtype, part: str
) -> None:
    tensors = {name: each.to(dtype) for name, each in {**lora(QUERY), f"{QUERY}.alpha": torch.ones(1)}.items()}
    spoilt = tensors[f"{QUERY}.{part}"].float()
    spoilt.view(-1)[-1] = value
    tensors[f"{QUERY}.{part}"] = spoilt.to(dtype)
    with pytest.raises(InputFault, match=rf"not finite, in {QUERY}\.{part}"):
        read_lora(save(tmp_path, tensors))


def test_numbers_above_what_float32_holds_are_refused(tmp_path: Path) -> None:
    tensors = {name: each.double() * 1e300 for name, each in lora(QUERY).items()}
    with pytest.raises(InputFault, match="not finite"):
        read_lora(save(tmp_path, tensors))


FOREIGN = {
    "Stable Diffusion 1.5": lora("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", width=768),
    "Stable Diffusion 2": lora("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", width=1024),
    "the SDXL refiner": lora("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_v", width=1280),
    "Flux": lora("lora_unet_double_blocks_0_img_attn_qkv"),
    "Flux ": lora("transformer.single_transformer_blocks.0.attn.to_q", "lora_A.weight", "lora_B.weight"),
    "Stable Diffusion 3": lora("lora_unet_joint_blocks_0_x_block_attn_qkv"),
    "Stable Diffusion 3 ": lora("transformer.transformer_blocks.0.attn.to_q", "lora_A.weight", "lora_B.weight"),
    "Kolors of Kwai": lora("lora_unet_encoder_hid_proj"),
    "Kolors of Kwai ": lora("unet.add_embedding.linear_1", "lora_A.weight", "lora_B.weight", 5632),
    "Stable Cascade": lora("lora_prior_unet_down_blocks_0_1_attention_attn_to_q"),
    "Wan": lora("diffusion_model.blocks.0.self_attn.q", "lora_A.weight", "lora_B.weight"),
    "a language model": lora("base_model.model.model.layers.0.self_attn.q_proj", "lora_A.weight", "lora_B.weight"),
}


@pytest.mark.parametrize("made_for", FOREIGN)
def test_a_file_for_another_architecture_is_refused_by_its_name_however_few_tensors_do_not_fit(
    tmp_path: Path, targets: Targets, made_for: str
) -> None:
    file = read_lora(save(tmp_path, {**FOREIGN[made_for], **lora(QUERY)}))
    with pytest.raises(InputFault, match=f"made for {made_for.strip()} and does not fit the model"):
        targets.match(file)
    assert len(targets.match(file, force=True).layers) == 1


def test_what_trainers_write_tells_the_architecture_where_names_and_shapes_do_not(
    tmp_path: Path, targets: Targets
) -> None:
    tensors = lora(QUERY, width=320)
    with pytest.raises(InputFault, match="made for Stable Diffusion 2"):
        targets.match(read_lora(save(tmp_path, tensors, {"modelspec.architecture": "stable-diffusion-v2-768-v/lora"})))
    with pytest.raises(InputFault, match=r"This LoRA does not fit the model.*2 of its 2 tensors"):
        targets.match(read_lora(save(tmp_path, tensors, {"ss_base_model_version": "sdxl_base_v1-0"})))


def test_force_takes_what_fits_and_refuses_a_file_of_which_nothing_does(tmp_path: Path, targets: Targets) -> None:
    foreign = {name: each for at in range(7) for name, each in lora(f"lora_unet_elsewhere_{at}").items()}
    forced = targets.match(read_lora(save(tmp_path, {**lora(QUERY), **foreign})), force=True)
    assert str(forced).startswith("2 of the 16 tensors of this LoRA were applied by force, and not lora_unet_elsewhere")
    with pytest.raises(InputFault, match="does not fit the model"):
        targets.match(read_lora(save(tmp_path, foreign)), force=True)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["a" + ".b" * 500_000, f"{QUERY}.{'c' * 2000}"], ids=["dots", "letters"])
def test_names_that_would_take_minutes_to_place_are_not_looked_at(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputFault, match="longer than 1000") as caught:
        read_lora(save(tmp_path, {**lora(QUERY), name: torch.zeros(1)}))
    assert len(caught.value.msg) < 200


def test_more_tensors_than_any_model_has_are_not_looked_at(tmp_path: Path) -> None:
    with pytest.raises(InputFault, match="has 20001 tensors"):
        read_lora(save(tmp_path, dict.fromkeys(map(str, range(20_001)), torch.zeros(1))))
