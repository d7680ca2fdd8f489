"""Weights that are constructed: the VAE's, but for what its decoder learns (`decoder.py`).

It ends, as a UNet does, in group norm, SiLU and a convolution, which would lose the picture's levels. A value that must
survive is therefore carried by four channels of one norm group: v, -v, C and -C. Their mean is 0 and their deviation
nearly constant, so the norm only scales; a large bias puts SiLU where it is nearly straight, and the difference of the
two halves takes the bias out again.
"""

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

LIFT = 8.0  # the bias that puts SiLU where it is nearly straight
ANCHOR = 16.0  # C
AMPLITUDE = 7.0  # latents of a picture's extremes, so that times 0.13025 they are about 1
SECRECY = -20.0  # log-variance of the posterior: next to none
LUMINANCE = (1 / 3, 1 / 3, 1 / 3)
SHARPER = 0.12  # makes up for what averaging and enlarging blur


@torch.no_grad()
def construct_vae(vae: AutoencoderKL) -> None:
    """Encode to averages over 8x8 pixels of red, green, blue and brightness; decode to a smooth enlargement."""
    module: Any  # the blocks of diffusers carry no types
    for module in vae.modules():
        if type(module).__name__ == "ResnetBlock2D":
            _zero(module.conv2)
        if type(module).__name__ == "Attention":
            _zero(module.to_out[0])
    _construct_encoder(vae)
    _construct_decoder(vae)


def _construct_encoder(vae: AutoencoderKL) -> None:
    encoder: Any = vae.encoder
    mixed = torch.cat([torch.eye(3), torch.tensor([LUMINANCE])])
    _carry_in(encoder.conv_in, mixed)
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            _carry_on(resnet.conv_shortcut)
        for down in block.downsamplers or ():
            _zero(down.conv)
            for channel in range(down.conv.out_channels):
                down.conv.weight[channel, channel, :2, :2] = 0.25
    means_and_variances = torch.cat([torch.eye(4) * AMPLITUDE, torch.zeros(4, 4)])
    straight_end(encoder.conv_norm_out, encoder.conv_out, means_and_variances, ANCHOR)
    encoder.conv_out.bias[4:] = SECRECY
    _identity(vae.quant_conv)
    _identity(vae.post_quant_conv)


def _construct_decoder(vae: AutoencoderKL) -> None:
    decoder: Any = vae.decoder
    _carry_in(decoder.conv_in, torch.eye(4) / AMPLITUDE, SHARPER)
    smooth = torch.tensor([0.25, 0.5, 0.25])
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            _carry_on(resnet.conv_shortcut)
        for up in block.upsamplers or ():
            _zero(up.conv)
            quarter = up.conv.out_channels // 4
            for channel in range(up.conv.out_channels):
                if channel % quarter < 2:
                    up.conv.weight[channel, channel] = smooth[:, None] * smooth[None, :]
                else:  # the anchors keep their level up to the border
                    up.conv.weight[channel, channel, 1, 1] = 1.0
    colours = torch.cat([torch.eye(3) - 0.3 * torch.tensor([LUMINANCE]), torch.full((3, 1), 0.3)], dim=1)
    straight_end(decoder.conv_norm_out, decoder.conv_out, colours, ANCHOR)


def _carry_in(conv: Any, mix: Tensor, sharper: float = 0.0) -> None:
    """Spread four mixed values over the channels: v, -v, C, -C at the start of each quarter.

    sharper: by how much a value moves away from each of its four neighbours.
    """
    sharp = torch.tensor([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]]) * sharper
    sharp[1, 1] += 1
    _zero(conv)
    quarter = conv.out_channels // 4
    for value in range(4):
        for place, sign in ((0, 1.0), (1, -1.0)):
            conv.weight[quarter * value + place] = sign * mix[value][:, None, None] * sharp
            conv.bias[quarter * value + 2 + place] = sign * ANCHOR


def _carry_on(shortcut: nn.Conv2d | None) -> None:
    """Move the start of each quarter of the channels to the start of the new quarter."""
    if shortcut is None:
        return
    _zero(shortcut)
    before, after = shortcut.in_channels // 4, shortcut.out_channels // 4
    for value in range(4):
        for place in range(4):
            shortcut.weight[after * value + place, before * value + place, 0, 0] = 1.0


def straight_end(norm: nn.GroupNorm, conv: nn.Conv2d, mix: Tensor, anchor: float) -> None:
    """Undo what norm and SiLU do to the values that the first four groups carry, and mix them: (outputs, 4)."""
    group = norm.num_channels // norm.num_groups
    norm.weight[: 4 * group] = anchor * (2 / group) ** 0.5
    norm.bias[: 4 * group] = LIFT
    _zero(conv)
    for value in range(4):
        conv.weight[:, group * value, 1, 1] = mix[:, value] / 2
        conv.weight[:, group * value + 1, 1, 1] = -mix[:, value] / 2


def _identity(conv: Any) -> None:
    _zero(conv)
    conv.weight[:, :, 0, 0] = torch.eye(conv.out_channels)


def _zero(layer: nn.Conv2d | nn.Linear) -> None:
    layer.weight.zero_()
    if layer.bias is not None:
        layer.bias.zero_()
