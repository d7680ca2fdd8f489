"""LoRA files: layouts, matching, the change of a weight."""

import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipelines.errors import InputFault
from pipelines.weights.lora.changes import LowRank, merged, upload
from pipelines.weights.lora.matching import Targets
from pipelines.weights.lora.names import Place
from pipelines.weights.lora.reading import read_lora
from tests.pipelines.weights import tiny
from tests.pipelines.weights.copies import Copies

QUERY = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
CONVOLUTION = "down_blocks.0.resnets.0.conv1"
SHORTCUT = "down_blocks.1.resnets.0.conv_shortcut"
TEXT = "encoder.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def targets() -> Targets:
    return Targets(tiny.unet(), tiny.text_encoders())


def pair(weight: Tensor) -> tuple[Tensor, Tensor]:
    return tiny.low_rank(weight.shape[0], tuple(weight.shape[1:]))


def save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file(tensors, path, metadata)
    return path


@pytest.mark.parametrize(
    ("down_name", "up_name", "place"),
    [
        (f"lora_unet_{QUERY.replace('.', '_')}.lora_down.weight", None, ("unet", QUERY)),
        (
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight",
            None,
            ("unet", QUERY),
        ),
        ("diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.lora_down.weight", None, ("unet", QUERY)),
        (f"unet.{QUERY}.lora_A.weight", f"unet.{QUERY}.lora_B.weight", ("unet", QUERY)),
        (f"unet.{QUERY}.lora.down.weight", None, ("unet", QUERY)),
        (f"{QUERY}.lora_A.weight", f"{QUERY}.lora_B.weight", ("unet", QUERY)),
        (f"base_model.model.{QUERY}.lora_A.weight", f"base_model.model.{QUERY}.lora_B.weight", ("unet", QUERY)),
        (f"unet.{QUERY.replace('to_q', 'processor.to_q_lora')}.down.weight", None, ("unet", QUERY)),
        (f"lora_unet_{CONVOLUTION.replace('.', '_')}.lora_down.weight", None, ("unet", CONVOLUTION)),
        ("lora_unet_input_blocks_1_0_in_layers_2.lora_down.weight", None, ("unet", CONVOLUTION)),
        (f"lora_unet_{SHORTCUT.replace('.', '_')}.lora_down.weight", None, ("unet", SHORTCUT)),
        ("lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight", None, ("text_encoder", TEXT)),
        ("lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight", None, ("text_encoder", TEXT)),
        (
            "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
            None,
            ("text_encoder_2", f"text_model.{TEXT}"),
        ),
        (
            f"text_encoder.text_model.{TEXT}.lora_A.weight",
            f"text_encoder.text_model.{TEXT}.lora_B.weight",
            ("text_encoder", TEXT),
        ),
        (f"text_encoder.text_model.{TEXT}.lora_linear_layer.down.weight", None, ("text_encoder", TEXT)),
        (
            f"text_encoder_2.text_model.{TEXT}.lora_A.weight",
            f"text_encoder_2.text_model.{TEXT}.lora_B.weight",
            ("text_encoder_2", f"text_model.{TEXT}"),
        ),
    ],
)
def test_every_layout_finds_its_weight(
    tmp_path: Path, targets: Targets, down_name: str, up_name: str | None, place: tuple[str, str]
) -> None:
    models: dict[str, nn.Module] = {"unet": tiny.unet()}
    models["text_encoder"], models["text_encoder_2"] = tiny.text_encoders()
    weight = models[place[0]].get_parameter(place[1] + ".weight")
    down, up = pair(weight)
    path = save(tmp_path / "x.safetensors", {down_name: down, up_name or down_name.replace("down", "up"): up})
    if up_name is None and "down_blocks" in down_name:
        before, _, after = down_name.rpartition("down")
        path = save(tmp_path / "x.safetensors", {down_name: down, f"{before}up{after}": up})
    match = targets.match(read_lora(path))
    assert match.unmatched == ()
    assert list(match.layers) == [(place[0], place[1] + ".weight")]


def test_the_change_is_scale_times_alpha_by_rank_times_up_times_down() -> None:
    weight = torch.randn(6, 4)
    down, up = tiny.low_rank(6, (4,), rank=2)
    changed = merged(weight, [(LowRank(down, up, alpha=1.0), 0.8)])
    assert torch.allclose(changed, weight + 0.8 * (1 / 2) * up @ down, atol=1e-6)


def test_without_alpha_the_product_is_taken_whole() -> None:
    weight = torch.randn(6, 4)
    down, up = tiny.low_rank(6, (4,))
    assert torch.allclose(merged(weight, [(LowRank(down, up), 1.0)]), weight + up @ down, atol=1e-6)


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_merged_convolution_is_the_convolution_plus_the_two_small_ones(kernel: int) -> None:
    weight, picture = torch.randn(6, 4, kernel, kernel), torch.randn(1, 4, 9, 9)
    down, up = tiny.low_rank(6, (4, kernel, kernel))
    changed = merged(weight, [(LowRank(down, up), 1.0)])
    convolved = nn.functional.conv2d
    expected = convolved(picture, weight) + convolved(convolved(picture, down), up)
    assert torch.allclose(convolved(picture, changed), expected, atol=1e-4)


def test_merging_is_exact_in_float32_and_rounded_once() -> None:
    weight = torch.randn(6, 4).bfloat16()
    layers = [(LowRank(*tiny.low_rank(6, (4,), seed=seed)), 0.01) for seed in range(8)]
    exact = weight.float() + sum(0.01 * layer.up @ layer.down for layer, _ in layers)
    changed = merged(weight, layers)
    assert changed.dtype is torch.bfloat16
    assert (changed.float() - exact).abs().max() <= (exact.bfloat16().float() - exact).abs().max() + 1e-6


def test_the_weight_itself_is_left_alone() -> None:
    weight = torch.randn(6, 4)
    before = weight.clone()
    merged(weight, [(LowRank(*tiny.low_rank(6, (4,))), 1.0)])
    assert torch.equal(weight, before)


def test_the_alpha_of_an_adapter_description_counts(tmp_path: Path) -> None:
    down, up = tiny.low_rank(16, (16,))
    path = save(
        tmp_path / "x.safetensors",
        {f"unet.{QUERY}.lora_A.weight": down, f"unet.{QUERY}.lora_B.weight": up},
        {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 6, "unet.r": 2})},
    )
    (layer,) = read_lora(path).layers.values()
    assert isinstance(layer, LowRank)
    assert layer.alpha == 6.0


@pytest.mark.parametrize("content", [pickle.dumps({"a": 1}), b"", b"not a file of weights at all", bytes(100)])
def test_what_is_not_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputFault, match="safetensors") as caught:
        read_lora(path)
    assert caught.value.type == "feature_not_supported"


def test_a_few_unmatched_tensors_are_listed(tmp_path: Path, targets: Targets) -> None:
    down, up = tiny.low_rank(16, (16,))
    name = f"lora_unet_{QUERY.replace('.', '_')}"
    other = "lora_unet_down_blocks_7_conv"
    path = save(
        tmp_path / "x.safetensors",
        {
            f"{name}.lora_down.weight": down,
            f"{name}.lora_up.weight": up,
            f"{other}.lora_down.weight": down.clone(),
            f"{other}.lora_up.weight": up.clone(),
            "something_else": torch.zeros(1),
        },
    )
    match = targets.match(read_lora(path))
    assert len(match.layers) == 1
    assert len(match.unmatched) == 3
    assert "something_else" in match.unmatched


def test_more_than_twelve_unmatched_tensors_are_refused(tmp_path: Path, targets: Targets) -> None:
    weight = torch.zeros(16, 16)
    name = f"lora_unet_{QUERY.replace('.', '_')}"
    foreign = {f"lora_unet_elsewhere_{at}": weight for at in range(7)}
    fitting = tiny.write_kohya(
        tmp_path / "6.safetensors", {name: weight, **dict(list(foreign.items())[:6])}, alpha=None
    )
    assert len(targets.match(read_lora(fitting)).unmatched) == 12
    too_many = tiny.write_kohya(tmp_path / "7.safetensors", {name: weight, **foreign}, alpha=None)
    with pytest.raises(InputFault, match="does not fit") as caught:
        targets.match(read_lora(too_many))
    assert caught.value.type == "feature_not_supported"


def test_a_layer_of_another_shape_is_unmatched_and_a_file_of_nothing_else_is_refused(
    tmp_path: Path, targets: Targets
) -> None:
    name = f"lora_unet_{QUERY.replace('.', '_')}"
    path = tiny.write_kohya(tmp_path / "x.safetensors", {name: torch.zeros(320, 320)})
    with pytest.raises(InputFault, match="does not fit"):
        targets.match(read_lora(path))


@pytest.mark.parametrize(
    ("down", "up", "alpha"),
    [
        (torch.zeros(4), torch.zeros(4), torch.tensor(1.0)),
        (torch.zeros(0, 16), torch.zeros(16, 0), torch.tensor(1.0)),
        (torch.zeros(2, 16), torch.zeros(16, 2), torch.zeros(3)),
        (torch.zeros(2, 16, dtype=torch.int8), torch.zeros(16, 2, dtype=torch.int8), torch.tensor(1.0)),
        (torch.zeros(3, 16), torch.zeros(16, 2), torch.tensor(1.0)),
    ],
)
def test_tensors_that_make_no_product_are_refused(
    tmp_path: Path, targets: Targets, down: Tensor, up: Tensor, alpha: Tensor
) -> None:
    name = f"lora_unet_{QUERY.replace('.', '_')}"
    tensors = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": alpha}
    with pytest.raises(InputFault, match=r"cannot be applied as a whole: unet\.down_blocks"):
        targets.match(read_lora(save(tmp_path / "x.safetensors", tensors)))


@pytest.mark.parametrize(
    "description",
    [
        "{",
        "[1]",
        "[[1, 2]]",
        "3",
        "[" * 100_000,
        f'{{"unet.lora_alpha": 1{"0" * 400}}}',
        '{"unet.lora_alpha": NaN}',
        '{"unet.use_dora": true}',
        '{"unet.alpha_pattern": {"a": 2}}',
    ],
    ids=lambda description: description[:30],
)
def test_adapter_descriptions_that_cannot_be_followed_are_refused(tmp_path: Path, description: str) -> None:
    path = save(tmp_path / "x.safetensors", {"a": torch.zeros(1)}, {"lora_adapter_metadata": description})
    with pytest.raises(InputFault) as caught:
        read_lora(path)
    assert caught.value.type == "feature_not_supported"


def test_layers_go_to_a_device_in_one_copy_for_each_dtype() -> None:
    pairs = [tiny.low_rank(6, (4,), seed=seed) for seed in range(3)] + [tiny.low_rank(6, (4, 3, 3))]
    layers: dict[Place, LowRank] = {("unet", str(at)): LowRank(*each, alpha=at) for at, each in enumerate(pairs)}
    layers["unet", "half"] = LowRank(*(side.half() for side in tiny.low_rank(6, (4,))))
    with Copies() as copies:
        there = upload(layers, torch.device("meta"))
    assert copies.number == 2
    assert there.keys() == layers.keys()
    for place, layer in layers.items():
        assert there[place].alpha == layer.alpha
        for ours, theirs in ((layer.down, there[place].down), (layer.up, there[place].up)):
            assert (theirs.shape, theirs.dtype, theirs.device.type) == (ours.shape, ours.dtype, "meta")


def test_what_goes_there_is_what_was_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, by a device that says that it is another."""
    layers: dict[Place, LowRank] = {
        ("unet", str(seed)): LowRank(*tiny.low_rank(6, (4, 3, 3), seed=seed), alpha=1.5) for seed in range(3)
    }
    elsewhere: Any = SimpleNamespace(type="elsewhere")
    original = Tensor.to
    monkeypatch.setattr(
        Tensor, "to", lambda tensor, device, **_: original(tensor, "cpu" if device is elsewhere else device)
    )
    for place, layer in upload(layers, elsewhere).items():
        assert torch.equal(layer.down, layers[place].down)
        assert torch.equal(layer.up, layers[place].up)
        assert layer.down.untyped_storage().data_ptr() != layers[place].down.untyped_storage().data_ptr()
