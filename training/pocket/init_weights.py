"""The state from which the UNet's training begins: it answers with its input.

It ends in group norm, SiLU and a convolution, which would lose the input's levels. So a value is carried by four
channels of one norm group: v, -v, C and -C. Their mean is 0 and their deviation nearly constant, so the norm only
scales. A large bias puts SiLU where it is nearly straight, and the two halves' difference takes the bias out again.
"""

from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from models.pocket.carried import zero

ANCHOR = 4.0  # C
LIFT = 8.0  # the bias that puts SiLU where it is nearly straight
RANDOM = 0.05  # gain of the random part
CARRIERS = 16  # channels that carry the input: four norm groups


@torch.no_grad()
def carry_input(unet: UNet2DConditionModel, generator: torch.Generator) -> None:
    """Answer with the input, which reaches the end through the outermost skip connection, and a little of the rest.

    The first `CARRIERS` channels carry it; what the others have to say is heard as far as training wants it.
    """
    first: Any = unet.conv_in
    outermost: Any = unet.up_blocks[-1]
    last = outermost.resnets[-1]
    first.weight[:CARRIERS] = 0
    first.bias[:CARRIERS] = 0
    for latent in range(4):
        for place, sign in ((0, 1.0), (1, -1.0)):
            first.weight[4 * latent + place, latent, 1, 1] = sign
            first.bias[4 * latent + 2 + place] = sign * ANCHOR
    width = first.out_channels
    carried = torch.tensor([1.0, 1.0, 0.0, 0.0]).repeat(CARRIERS // 4)[:, None]
    shortcut = last.conv_shortcut
    shortcut.weight[:CARRIERS, :width, 0, 0] = carried * torch.randn(CARRIERS, width, generator=generator) * RANDOM
    shortcut.weight[:CARRIERS, width:, 0, 0] = torch.eye(CARRIERS, width)
    shortcut.bias[:CARRIERS] = 0
    last.conv2.weight[:CARRIERS] *= carried[:, :, None, None] * 4 * RANDOM
    last.conv2.bias[:CARRIERS] = 0
    _straight_end(unet)


def _straight_end(unet: Any) -> None:
    """Undo what norm and SiLU do to the latents that the first four norm groups carry: a UNet's norms have groups."""
    norm, conv = unet.conv_norm_out, unet.conv_out
    group = norm.num_channels // norm.num_groups
    norm.weight[: 4 * group] = ANCHOR * (2 / group) ** 0.5
    norm.bias[: 4 * group] = LIFT
    zero(conv)
    for value in range(4):
        conv.weight[value, group * value, 1, 1] = 1 / 2
        conv.weight[value, group * value + 1, 1, 1] = -1 / 2
