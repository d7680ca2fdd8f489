"""Inpaint head and patch: what they change, and files that are refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.pocket.acceptance.inpaint import apply_patch
from pipelines.errors import WeightsFault
from pipelines.weights.inpaint import head_feature, read_head
from pipelines.weights.keys import original_name
from tests.pipelines.weights import tiny

CHANGED = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight"


def test_the_head_sees_the_mask_first_and_repeats_what_is_at_the_border(tmp_path: Path) -> None:
    head = torch.zeros(2, 5, 3, 3)
    head[0, 0] = 1.0  # the mask around
    head[1, 4, 1, 1] = 1.0  # the last latent at the place
    save_file({"head": head.half()}, tmp_path / "head.safetensors")
    mask, around = torch.ones(1, 1, 4, 6), torch.randn(1, 4, 4, 6)
    feature = head_feature(read_head(tmp_path / "head.safetensors"), mask, around)
    assert torch.equal(feature[:, :1], 9 * mask)
    assert torch.allclose(feature[:, 1], around[:, 3])


def test_a_head_of_another_shape_is_refused(tmp_path: Path) -> None:
    save_file({"head": torch.zeros(2, 4, 3, 3)}, tmp_path / "head.safetensors")
    with pytest.raises(WeightsFault, match=r"\(2, 4, 3, 3\)"):
        read_head(tmp_path / "head.safetensors")
    save_file({"other": torch.zeros(2, 5, 3, 3)}, tmp_path / "head.safetensors")
    with pytest.raises(WeightsFault, match="cannot be read"):
        read_head(tmp_path / "head.safetensors")


def patch(path: Path, name: str, levels: torch.Tensor, **more: torch.Tensor) -> Path:
    key = "diffusion_model." + original_name(name, tiny.unet().config)
    save_file({f"{key}.levels": levels, f"{key}.range": torch.tensor([-0.5, 2.0]), **more}, path)
    return path


def test_levels_lie_evenly_between_the_least_and_the_most(tmp_path: Path) -> None:
    before, unet = tiny.unet(), tiny.unet()
    levels = torch.randint(0, 256, unet.get_parameter(CHANGED).shape, dtype=torch.uint8)
    levels[0, :3] = torch.tensor([0, 51, 255])
    apply_patch(unet, patch(tmp_path / "patch.safetensors", CHANGED, levels))
    for name, parameter in unet.named_parameters():
        change = parameter - before.get_parameter(name)
        if name == CHANGED:
            assert torch.allclose(change, levels / 255 * 2.5 - 0.5, atol=1e-6)
            assert torch.allclose(change[0, :3], torch.tensor([-0.5, 0.0, 2.0]), atol=1e-6)
        else:
            assert not change.any(), name


def test_a_patch_for_another_unet_is_refused(tmp_path: Path) -> None:
    shape = tiny.unet().get_parameter(CHANGED).shape
    path = patch(tmp_path / "patch.safetensors", CHANGED, torch.zeros(shape[0] + 1, shape[1], dtype=torch.uint8))
    with pytest.raises(WeightsFault, match="another shape"):
        apply_patch(tiny.unet(), path)
    stray = {"diffusion_model.input_blocks.99.0.weight.levels": torch.zeros(1)}
    patch(path, CHANGED, torch.zeros(shape, dtype=torch.uint8), **stray)
    with pytest.raises(WeightsFault, match=r"without a place.*99"):
        apply_patch(tiny.unet(), path)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsFault, match="cannot be read"):
        apply_patch(tiny.unet(), path)
