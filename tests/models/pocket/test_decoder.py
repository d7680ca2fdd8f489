"""The learned part of the VAE's decoder: without lessons nothing, with them the same in any part of a picture."""

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from models.pocket import shapes
from models.pocket.decoder import DecoderEdges, sharpen
from models.pocket.vae_weights import construct_vae

LATENTS = 5 * torch.randn(1, 4, 12, 32, generator=torch.Generator().manual_seed(1))
REACH = 96  # pixels that a block's neighbours and theirs may look to either side


@pytest.fixture
def decoder() -> nn.Module:
    vae: AutoencoderKL = AutoencoderKL.from_config(dict(shapes.VAE))
    construct_vae(vae)
    made: nn.Module = vae.decoder.requires_grad_(False)
    return made


def learned(decoder: nn.Module) -> DecoderEdges:
    """With what lessons might leave, by chance."""
    edges = DecoderEdges(decoder).requires_grad_(False)
    torch.manual_seed(2)
    for each in (*edges.write.values(), *edges.bias.values(), *edges.level.values()):
        each.normal_(std=0.02)
    return edges


def test_it_begins_as_the_smooth_enlargement(decoder: nn.Module) -> None:
    assert torch.equal(DecoderEdges(decoder)(LATENTS), decoder(LATENTS))


def test_what_was_learned_is_put_into_the_decoder(decoder: nn.Module) -> None:
    edges = learned(decoder)
    wanted: Tensor = edges(LATENTS)
    assert float((wanted - decoder(LATENTS)).abs().mean()) > 0.01
    sharpen(decoder, edges.state_dict())
    assert torch.equal(decoder(LATENTS), wanted)


def test_a_part_is_decoded_as_in_the_whole(decoder: nn.Module) -> None:
    """Norms, which see all of a picture, find nothing that differs from place to place."""
    edges = learned(decoder)
    whole, part = edges(LATENTS), edges(LATENTS[..., :20])
    inner = 20 * 8 - REACH
    assert torch.allclose(part[..., :inner], whole[..., :inner], atol=2e-3)


def test_what_another_decoder_learned_is_refused(decoder: nn.Module) -> None:
    edges = learned(decoder)
    with pytest.raises(RuntimeError, match="size mismatch"):
        sharpen(decoder, {name: weight[:1] for name, weight in edges.state_dict().items()})


def test_all_of_a_change_is_on_the_device_of_what_is_learned(decoder: nn.Module) -> None:
    weights = DecoderEdges(decoder).to("meta").weights()
    assert {weight.device.type for weight in weights.values()} == {"meta"}
