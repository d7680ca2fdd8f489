"""Names of a UNet's tensors."""

import pytest
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from torch import nn

from pipelines.errors import WeightsFault
from pipelines.weights.keys import original_name
from tests.pipelines.weights import tiny

SDXL = {"layers_per_block": 2, "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")}


@pytest.mark.parametrize(
    ("ours", "original"),
    [
        ("conv_in.weight", "input_blocks.0.0.weight"),
        ("time_embedding.linear_2.bias", "time_embed.2.bias"),
        ("add_embedding.linear_1.weight", "label_emb.0.0.weight"),
        ("down_blocks.0.resnets.1.conv1.weight", "input_blocks.2.0.in_layers.2.weight"),
        ("down_blocks.0.downsamplers.0.conv.weight", "input_blocks.3.0.op.weight"),
        ("down_blocks.1.downsamplers.0.conv.bias", "input_blocks.6.0.op.bias"),
        ("down_blocks.1.attentions.0.proj_in.weight", "input_blocks.4.1.proj_in.weight"),
        (
            "down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_out.0.bias",
            "input_blocks.8.1.transformer_blocks.9.attn2.to_out.0.bias",
        ),
        ("mid_block.resnets.1.conv_shortcut.weight", "middle_block.2.skip_connection.weight"),
        ("mid_block.attentions.0.norm.weight", "middle_block.1.norm.weight"),
        ("up_blocks.0.upsamplers.0.conv.weight", "output_blocks.2.2.conv.weight"),
        ("up_blocks.1.upsamplers.0.conv.weight", "output_blocks.5.2.conv.weight"),
        ("up_blocks.2.resnets.2.norm2.weight", "output_blocks.8.0.out_layers.0.weight"),
        ("conv_norm_out.weight", "out.0.weight"),
        ("conv_out.bias", "out.2.bias"),
    ],
)
def test_names_of_sdxl(ours: str, original: str) -> None:

    assert original_name(ours, SDXL) == original


@pytest.mark.parametrize("channels", [(8, 16), (8, 16, 16), (8, 8, 16, 16)])
def test_every_tensor_of_a_unet_of_any_depth_has_a_name_of_its_own(channels: tuple[int, ...]) -> None:
    unet = tiny.unet(channels=channels)
    state = unet.state_dict()
    assert len({original_name(name, unet.config) for name in state}) == len(state)


@pytest.mark.parametrize("channels", [(8, 16), (8, 16, 16), (8, 8, 16, 16)])
def test_diffusers_reads_every_original_name_back(channels: tuple[int, ...]) -> None:
    unet = tiny.unet(channels=channels)
    stored = {f"model.diffusion_model.{original_name(name, unet.config)}": name for name in unet.state_dict()}
    assert convert_ldm_unet_checkpoint(stored, unet.config) == {name: name for name in stored.values()}


def test_a_module_is_called_as_its_weight_is() -> None:
    unet = tiny.unet()
    for name, module in unet.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            assert original_name(f"{name}.weight", unet.config) == f"{original_name(name, unet.config)}.weight"


@pytest.mark.parametrize("name", ["encoder_hid_proj.weight", "down_blocks.0", "mid_block.x.0.y"])
def test_parts_that_sdxl_lacks_are_told(name: str) -> None:
    with pytest.raises(WeightsFault, match="SDXL"):
        original_name(name, SDXL)
