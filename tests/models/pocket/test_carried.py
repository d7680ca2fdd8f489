"""Carried values: what blocks compute with them is right whatever the picture, up to its border."""

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from models.pocket.carried import Ramp, carry, compute, enter, leave

WIDTH = 8
VALUES = torch.randn(1, 2, 6, 9, generator=torch.Generator().manual_seed(3)).clamp(-1.4, 1.4)


def through(block: nn.Module) -> Tensor:
    """What comes out of a block for two values."""
    first, last, norm = nn.Conv2d(2, WIDTH, 3, padding=1), nn.Conv2d(WIDTH, 2, 3, padding=1), nn.GroupNorm(1, WIDTH)
    enter(first, torch.eye(2))
    leave(norm, last, torch.eye(2))
    with torch.inference_mode():
        carried = first(VALUES)
        after = block(carried, None) if isinstance(block, ResnetBlock2D) else block(carried)
        found: Tensor = last(nn.functional.silu(norm(after)))
    return found


def test_values_come_through_norms_as_they_are() -> None:
    conv = nn.Conv2d(WIDTH, WIDTH, 1)
    carry(conv, torch.eye(2)[:, :, None, None])
    assert torch.allclose(through(conv), VALUES, atol=1e-3)


def test_a_block_adds_the_positive_part_of_what_it_reads() -> None:
    """Here of the difference to the right neighbour, to the other value; beyond the border there is none."""
    reads, inside = torch.zeros(2, 3, 3), torch.zeros(3, 3)
    reads[0, 1, 2], reads[0, 1, 1], inside[1, 2] = 1.0, -1.0, 2.0
    block = ResnetBlock2D(in_channels=WIDTH, temb_channels=None, groups=1, eps=1e-6)
    compute(block, 2, [Ramp(reads, inside, -2.0, {1: 3.0})])
    wanted = VALUES.clone()
    wanted[:, 1, :, :-1] += 3 * (VALUES[:, 0, :, 1:] - VALUES[:, 0, :, :-1]).relu()
    assert torch.allclose(through(block), wanted, atol=5e-3)


def test_more_than_a_block_has_channels_for_is_refused() -> None:
    ramp = Ramp(torch.zeros(2, 3, 3), torch.zeros(3, 3), 0.0, {0: 1.0})
    block = ResnetBlock2D(in_channels=WIDTH, temb_channels=None, groups=1)
    compute(block, 2, [ramp] * (WIDTH - 3))
    with pytest.raises(ValueError, match="do not fit"):
        compute(block, 2, [ramp] * (WIDTH - 2))
