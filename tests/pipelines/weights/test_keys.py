"""Names of a UNet's tensors."""

import pytest

from pipelines.errors import WeightsFault
from pipelines.weights.keys import original_name, original_names
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
    names = original_names(state, unet.config)
    assert sorted(names.values()) == sorted(state)


@pytest.mark.parametrize("name", ["encoder_hid_proj.weight", "down_blocks.0", "mid_block.x.0.y"])
def test_parts_that_sdxl_lacks_are_told(name: str) -> None:
    with pytest.raises(WeightsFault, match="SDXL"):
        original_name(name, SDXL)
