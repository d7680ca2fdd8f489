"""Pictures as the vision tower of image prompts sees them, and what makes prompts of that."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file

from benchmarks.pocket.attending import attach_image_prompt
from pipelines.errors import WeightsFault
from pipelines.parts import CONFIGS, Part
from pipelines.weights.checkpoint import read_config
from pipelines.weights.family import Family
from pipelines.weights.image_prompt import EDGE, Adapter, read_adapter, read_negative, tower_input
from tests.pipelines.weights import key_lists
from tests.pipelines.weights.sparse import write_sparse

CPU, META = torch.device("cpu"), torch.device("meta")
PUBLISHED = 1_013_454_427  # bytes of the published file (fooocus-facts 9.1)


@pytest.fixture(scope="module")
def sdxl_unet() -> UNet2DConditionModel:
    with META:
        unet: UNet2DConditionModel = UNet2DConditionModel.from_config(read_config(CONFIGS / "sdxl_base" / "unet"))
    return unet


def test_a_picture_is_stretched_and_normalised_as_clip_does() -> None:
    found = tower_input([np.full((10, 30, 3), 255, np.uint8), np.zeros((7, 7, 3), np.uint8)])
    assert found.shape == (2, 3, EDGE, EDGE)
    assert found[0, :, 0, 0].tolist() == pytest.approx([1.93034, 2.07488, 2.14590], abs=1e-4)
    assert found[1, :, -1, -1].tolist() == pytest.approx([-1.79226, -1.75210, -1.48022], abs=1e-4)


def test_the_adapter_of_sdxl_loads_whole(tmp_path: Path, sdxl_unet: UNet2DConditionModel) -> None:
    path = write_sparse(tmp_path / "a.safetensors", key_lists.ip_adapter_plus())
    adapter = read_adapter(path, sdxl_unet, 1280, META, torch.float16)
    found = adapter.attention.projections
    assert len(found) == 70
    assert sum(key.numel() + value.numel() for key, value in found.values()) == 340_787_200
    assert sum(parameter.numel() for parameter in adapter.resampler.parameters()) == 82_961_664


def test_the_list_is_that_of_the_published_file() -> None:
    """Its size says so: a resampler in float32, projections in float16, and what a pickle says besides."""
    sizes = {name: torch.Size(shape).numel() for name, shape in key_lists.ip_adapter_plus().items()}
    told = sum(size * (4 if name.startswith("image_proj.") else 2) for name, size in sizes.items())
    assert 0 < PUBLISHED - told < 50_000


def test_projections_stand_at_the_attentions_that_diffusers_would_give_them(
    tmp_path: Path, sdxl_unet: UNet2DConditionModel
) -> None:
    """By its order of attention processors, down, up, middle (fooocus-facts 5.2)."""
    path = write_sparse(tmp_path / "a.safetensors", key_lists.ip_adapter_plus())
    found = read_adapter(path, sdxl_unet, 1280, META, torch.float16).attention.projections
    named = [name.removesuffix(".processor") for name in sdxl_unet.attn_processors if ".attn2." in name]
    assert list(found) == named


@pytest.mark.parametrize("gone", ["ip_adapter.139.to_v_ip.weight", "image_proj.layers.3.1.3.weight"])
def test_what_an_adapter_lacks_is_named(tmp_path: Path, sdxl_unet: UNet2DConditionModel, gone: str) -> None:
    keys = {name: shape for name, shape in key_lists.ip_adapter_plus().items() if name != gone}
    path = write_sparse(tmp_path / "a.safetensors", keys)
    with pytest.raises(WeightsFault, match=f"lacks {gone};"):
        read_adapter(path, sdxl_unet, 1280, META, torch.float16)


@pytest.mark.parametrize(
    "more",
    [
        {"ip_adapter.140.to_k_ip.weight": (640, 2048)},
        {"ip_adapter.2.to_k_ip.weight": (640, 2048)},
        {"image_proj.layers.4.0.to_q.weight": (1280, 1280)},
        {"ip_adapter.1.to_k_ip.weight": (1280, 2048)},
        {"image_proj.proj_in.weight": (1280, 1664)},
    ],
    ids=str,
)
def test_an_adapter_of_another_make_is_refused(
    tmp_path: Path, sdxl_unet: UNet2DConditionModel, more: key_lists.Keys
) -> None:
    path = write_sparse(tmp_path / "a.safetensors", key_lists.ip_adapter_plus() | more)
    with pytest.raises(WeightsFault):
        read_adapter(path, sdxl_unet, 1280, META, torch.float16)


@pytest.mark.parametrize("part", ["image_prompt", "face_prompt"])
def test_an_adapter_is_what_diffusers_reads(pocket_family: Family, part: Part) -> None:
    unet, path = copy.deepcopy(pocket_family.unet), pocket_family.catalogue.part(part)
    resampler = attach_image_prompt(unet, path)
    ours = read_adapter(path, pocket_family.unet, 64, CPU, torch.float32)
    features = torch.randn(2, 65, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours.resampler(features), resampler(features), atol=1e-6, rtol=0)
    for place, (key, value) in ours.attention.projections.items():
        processor: Any = unet.get_submodule(place).processor
        assert torch.equal(key, processor.to_k_ip[0].weight)
        assert torch.equal(value, processor.to_v_ip[0].weight)


@pytest.mark.parametrize("shape", [(16, 160), (1, 16, 160)])
def test_negative_tokens_are_read_with_a_batch_or_without(
    tmp_path: Path, pocket_family: Family, shape: tuple[int, ...]
) -> None:
    stored = torch.randn(shape).half()
    save_file({"data": stored}, tmp_path / "a.safetensors")
    found = read_negative(tmp_path / "a.safetensors", pocket_adapter(pocket_family), CPU, torch.float32)
    assert torch.equal(found, stored.float().reshape(16, 160))


@pytest.mark.parametrize("tensors", [{"date": (16, 160)}, {"data": (16, 2048)}, {"data": (16, 160), "more": (1,)}])
def test_other_negative_tokens_are_refused(
    tmp_path: Path, pocket_family: Family, tensors: dict[str, tuple[int, ...]]
) -> None:
    path = write_sparse(tmp_path / "a.safetensors", tensors)
    with pytest.raises(WeightsFault, match="16 image tokens"):
        read_negative(path, pocket_adapter(pocket_family), CPU, torch.float32)


def pocket_adapter(family: Family) -> Adapter:
    return read_adapter(family.catalogue.part("image_prompt"), family.unet, 64, CPU, torch.float32)
