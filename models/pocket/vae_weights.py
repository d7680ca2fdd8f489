"""The VAE's weights, which are constructed: latents are averages over 8 x 8 pixels (`decoder.py` draws them again)."""

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from models.pocket.carried import carry, enter, leave, zero
from models.pocket.decoder import construct_decoder

AMPLITUDE = 7.0  # latents of a picture's extremes, so that times 0.13025 they are about 1
SECRECY = -20.0  # log-variance of the posterior: next to none
LUMINANCE = (1 / 3, 1 / 3, 1 / 3)
BRIGHTNESS = 0.3  # share of a picture's brightness that is the fourth latent's; the rest is the mean of the others


@torch.no_grad()
def construct_vae(vae: AutoencoderKL) -> None:
    """Encode to averages over 8x8 pixels of red, green, blue and brightness; decode to sharp outlines between them."""
    module: Any  # the blocks of diffusers carry no types
    for module in vae.modules():
        if type(module).__name__ == "ResnetBlock2D":
            zero(module.conv2)
        if type(module).__name__ == "Attention":
            zero(module.to_out[0])
    _construct_encoder(vae.encoder)
    luminance = torch.tensor([LUMINANCE])
    colours = torch.cat([torch.eye(3) - BRIGHTNESS * luminance, torch.full((3, 1), BRIGHTNESS)], dim=1)
    construct_decoder(vae.decoder, colours / AMPLITUDE)
    for conv in (vae.quant_conv, vae.post_quant_conv):
        _identity(conv)


def _construct_encoder(encoder: Any) -> None:
    mixed = torch.cat([torch.eye(3), torch.tensor([LUMINANCE])])
    same = torch.eye(4)[:, :, None, None]
    enter(encoder.conv_in, mixed)
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            if resnet.conv_shortcut is not None:
                carry(resnet.conv_shortcut, same)
        for down in block.downsamplers or ():
            carry(down.conv, (same / 4).expand(-1, -1, 2, 2))
    means_and_variances = torch.cat([torch.eye(4) * AMPLITUDE, torch.zeros(4, 4)])
    leave(encoder.conv_norm_out, encoder.conv_out, means_and_variances)
    encoder.conv_out.bias[4:] = SECRECY


def _identity(conv: Any) -> None:
    zero(conv)
    conv.weight[:, :, 0, 0] = torch.eye(conv.out_channels)
