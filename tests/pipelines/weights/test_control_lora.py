"""Control-LoRAs: building the network and running it."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.errors import WeightsFault
from pipelines.weights.control_lora import build_control, control_residuals, softness_ramp
from pipelines.weights.keys import original_name
from tests.pipelines.weights import tiny

QUERY = "input_blocks.4.1.transformer_blocks.0.attn1.to_q"
HINT_WIDTHS = ((4, 3), (4, 4), (6, 4), (6, 6), (8, 6), (8, 8), (10, 8), (8, 10))  # (out, in), by place


def write_control(path: Path, unet: UNet2DConditionModel, leave_out: Sequence[str] = ()) -> Path:
    """A control-LoRA as published ones are: matrices and convolutions low-rank, biases and norms in full."""
    shape = ControlNetModel.from_unet(unet)
    generator = torch.Generator().manual_seed(11)

    def random(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator) / 8

    tensors = {"lora_controlnet": torch.zeros(0)}
    for at, (outputs, inputs) in enumerate(HINT_WIDTHS):
        tensors[f"input_hint_block.{2 * at}.weight"] = random(outputs, inputs, 3, 3)
        tensors[f"input_hint_block.{2 * at}.bias"] = random(outputs)
    for at, convolution in enumerate(shape.controlnet_down_blocks):
        tensors[f"zero_convs.{at}.0.weight"] = random(*convolution.weight.shape)
        tensors[f"zero_convs.{at}.0.bias"] = random(*convolution.bias.shape)
    tensors["middle_block_out.0.weight"] = random(*shape.controlnet_mid_block.weight.shape)
    tensors["middle_block_out.0.bias"] = random(*shape.controlnet_mid_block.bias.shape)
    for name, parameter in shape.named_parameters():
        if name.startswith("controlnet_") or any(name.startswith(part) for part in leave_out):
            continue
        original = original_name(name, unet.config)
        if parameter.ndim == 1:
            tensors[original] = parameter.detach() + random(*parameter.shape)
        else:
            down, up = tiny.low_rank(parameter.shape[0], tuple(parameter.shape[1:]), seed=len(tensors))
            layer = original.removesuffix(".weight")
            tensors |= {f"{layer}.down": down, f"{layer}.up": up}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def test_a_layer_is_the_unets_plus_the_product(tmp_path: Path) -> None:
    unet = tiny.unet()
    path = write_control(tmp_path / "c.safetensors", unet)
    network, tensors = build_control(unet, path), load_file(path)
    module = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    expected = unet.get_parameter(module) + tensors[f"{QUERY}.up"] @ tensors[f"{QUERY}.down"]
    assert torch.allclose(network.get_parameter(module), expected, atol=1e-6)
    down, up = tensors["input_blocks.1.0.in_layers.2.down"], tensors["input_blocks.1.0.in_layers.2.up"]
    expected = unet.down_blocks[0].resnets[0].conv1.weight + torch.einsum("or,rikl->oikl", up[:, :, 0, 0], down)
    assert torch.allclose(network.down_blocks[0].resnets[0].conv1.weight, expected, atol=1e-6)


def test_stored_tensors_are_taken_whole(tmp_path: Path) -> None:
    unet = tiny.unet()
    path = write_control(tmp_path / "c.safetensors", unet)
    network, tensors = build_control(unet, path), load_file(path)
    pairs = {
        "controlnet_cond_embedding.conv_in.weight": "input_hint_block.0.weight",
        "controlnet_cond_embedding.blocks.0.weight": "input_hint_block.2.weight",
        "controlnet_cond_embedding.blocks.5.bias": "input_hint_block.12.bias",
        "controlnet_cond_embedding.conv_out.weight": "input_hint_block.14.weight",
        "controlnet_down_blocks.3.weight": "zero_convs.3.0.weight",
        "controlnet_mid_block.bias": "middle_block_out.0.bias",
        "conv_in.bias": "input_blocks.0.0.bias",
        "mid_block.resnets.1.norm1.weight": "middle_block.2.in_layers.0.weight",
    }
    for ours, theirs in pairs.items():
        assert torch.equal(network.get_parameter(ours), tensors[theirs]), ours


def test_layers_that_are_not_stored_are_shared_with_the_unet(tmp_path: Path) -> None:
    unet = tiny.unet()
    network = build_control(unet, write_control(tmp_path / "c.safetensors", unet, leave_out=("time_embedding",)))
    assert network.time_embedding.linear_1.weight is unet.time_embedding.linear_1.weight


@pytest.mark.parametrize(("channels", "residuals"), [((8, 16), 6), ((8, 16, 16), 9), ((8, 8, 16, 16), 12)])
def test_any_depth(tmp_path: Path, channels: tuple[int, ...], residuals: int) -> None:
    unet = tiny.unet(channels=channels)
    network = build_control(unet, write_control(tmp_path / "c.safetensors", unet))
    down, middle = run(network)
    assert len(down) == residuals
    prediction = tiny.predict(unet, down_block_additional_residuals=tuple(down), mid_block_additional_residual=middle)
    assert not torch.allclose(prediction, tiny.predict(unet))
    assert not any(parameter.is_meta for parameter in network.parameters())


def test_the_hint_changes_what_the_network_says(tmp_path: Path) -> None:
    unet = tiny.unet()
    network = build_control(unet, write_control(tmp_path / "c.safetensors", unet))
    assert not torch.allclose(run(network)[1], run(network, hint() * 0)[1])


def test_residuals_equal_the_plain_forward(tmp_path: Path) -> None:
    unet = tiny.unet()
    network = build_control(unet, write_control(tmp_path / "c.safetensors", unet))
    with torch.no_grad():
        expected = network(**tiny.call(), added_cond_kwargs=tiny.added(), controlnet_cond=hint(), return_dict=False)
    down, middle = run(network)
    for ours, theirs in zip([*down, middle], [*expected[0], expected[1]], strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_masked_padding_of_the_context_has_no_effect(tmp_path: Path) -> None:
    unet = tiny.unet()
    network = build_control(unet, write_control(tmp_path / "c.safetensors", unet))
    call = tiny.call()
    tokens = call.pop("encoder_hidden_states")
    padded = torch.cat([tokens, torch.full((2, 3, tiny.WIDTH), 5.0)], dim=1)
    mask = torch.tensor([[1.0] * 5 + [0.0] * 3] * 2)
    plain = run(network)
    with torch.no_grad():
        embedding = network.controlnet_cond_embedding(hint())
        down, middle = control_residuals(
            network, call["sample"], call["timestep"], padded, tiny.added(), embedding, mask
        )
    for ours, theirs in zip([*down, middle], [*plain[0], plain[1]], strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("extra", "without a place"),
        ("lonely", "without a place"),
        ("no_hint", "hint encoder"),
        ("no_zero", "zero_convs.2.0.bias"),
        ("no_marker", "no control-LoRA"),
        ("other_shape", "another shape"),
        ("other_bias", "another shape"),
    ],
)
def test_a_file_that_does_not_fit_is_told(tmp_path: Path, change: str, told: str) -> None:
    unet = tiny.unet()
    path = write_control(tmp_path / "c.safetensors", unet)
    tensors = load_file(path)
    match change:
        case "extra":
            tensors["output_blocks.0.0.in_layers.0.weight"] = torch.zeros(1)
        case "lonely":
            del tensors[f"{QUERY}.up"]
        case "no_hint":
            del tensors["input_hint_block.4.weight"]
        case "no_zero":
            del tensors["zero_convs.2.0.bias"]
        case "no_marker":
            del tensors["lora_controlnet"]
        case "other_shape":
            tensors[f"{QUERY}.down"] = torch.zeros(2, 640)
        case "other_bias":
            tensors["input_blocks.0.0.bias"] = torch.zeros(320)
    save_file(tensors, path)
    with pytest.raises(WeightsFault, match=told):
        build_control(unet, path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsFault, match="cannot be read"):
        build_control(tiny.unet(), tmp_path / "absent.safetensors")


def test_the_softness_ramp_rises_from_three_quarters_at_the_first_to_one_in_the_middle() -> None:
    ramp = softness_ramp(10)
    assert ramp == pytest.approx([1 - 0.25 * (1 - at / 9) for at in range(10)])
    assert (ramp[0], ramp[-1]) == (0.75, 1.0)
    assert softness_ramp(1) == [1.0]
    assert softness_ramp(4, softness=0.0) == [1.0] * 4


def hint() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(9))


def run(network: ControlNetModel, pictures: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
    call = tiny.call()
    with torch.no_grad():
        embedding = network.controlnet_cond_embedding(hint() if pictures is None else pictures)
        return control_residuals(
            network,
            call["sample"],
            call["timestep"],
            call["encoder_hidden_states"],
            tiny.added(),
            embedding,
        )
