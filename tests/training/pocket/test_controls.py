"""A control network begins with no effect, but with a hint encoder that can learn."""

import copy

import torch

from pipelines.weights.family import Family
from training.pocket.controls import Control


@torch.no_grad()
def test_hints_are_seen_from_the_start_and_do_nothing_yet(pocket_family: Family) -> None:
    control = Control(copy.deepcopy(pocket_family.unet))
    hints = torch.rand(1, 3, 128, 128)
    assert control.network.controlnet_cond_embedding(hints).std() > 1e-3
    width = pocket_family.unet.config["cross_attention_dim"]
    found = control.residuals(
        torch.randn(1, 4, 16, 16), torch.tensor([500]), torch.randn(1, 7, width), torch.randn(1, 96), hints
    )
    down = found["down_block_additional_residuals"]
    assert all(not residual.any() for residual in (*down, found["mid_block_additional_residual"]))
