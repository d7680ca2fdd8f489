"""Loading a checkpoint: diffusers agrees on what it holds, nothing is fetched, and no fault goes unseen."""

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from pipelines.errors import WeightsFault
from pipelines.weights.checkpoint import Components, load_checkpoint
from pipelines.weights.layout import second_text_places, unet_places

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a local file needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def checkpoint(pocket_family_folder: Path) -> dict[str, Tensor]:
    return load_file(pocket_family_folder / "pocket_xl.safetensors")


@pytest.fixture(scope="module")
def loaded(pocket_family_folder: Path) -> Components:
    folder = pocket_family_folder
    return load_checkpoint(folder / "pocket_xl.safetensors", folder / "config", CPU, torch.float32)


def assert_same(ours: nn.Module, theirs: nn.Module) -> None:
    state, wanted = ours.state_dict(), theirs.state_dict()
    assert state.keys() == wanted.keys()
    for name, tensor in state.items():
        assert torch.equal(tensor, wanted[name].float()), name


@pytest.mark.parametrize(("part", "kind"), [("unet", UNet2DConditionModel), ("vae", AutoencoderKL)])
def test_diffusers_reads_the_same_network(
    pocket_family_folder: Path, checkpoint: dict[str, Tensor], loaded: Components, part: str, kind: Any
) -> None:
    theirs = kind.from_single_file(
        dict(checkpoint), config=str(pocket_family_folder / "config"), subfolder=part, local_files_only=True
    )
    assert_same(getattr(loaded, part), theirs)


@pytest.mark.parametrize(("at", "folder", "kind"), [(0, "", CLIPTextModel), (1, "_2", CLIPTextModelWithProjection)])
def test_diffusers_reads_the_same_text_encoders(
    pocket_family_folder: Path, checkpoint: dict[str, Tensor], loaded: Components, at: int, folder: str, kind: Any
) -> None:
    theirs = create_diffusers_clip_model_from_ldm(
        kind,
        dict(checkpoint),
        subfolder=f"text_encoder{folder}",
        config=str(pocket_family_folder / "config"),
        local_files_only=True,
        torch_dtype=torch.float32,
    )
    assert_same(loaded.text_encoders[at], theirs)


def test_nothing_is_left_without_memory_or_in_training(loaded: Components) -> None:
    for module in (loaded.unet, loaded.vae, *loaded.text_encoders):
        tensors = [*module.parameters(), *module.buffers()]
        assert all(tensor.device == CPU and not tensor.requires_grad for tensor in tensors)
        assert not module.training


@pytest.fixture
def copy(pocket_family_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(pocket_family_folder / "config", tmp_path / "config")
    return tmp_path


def load(folder: Path, tensors: dict[str, Tensor]) -> Components:
    save_file(tensors, folder / "changed.safetensors")
    return load_checkpoint(folder / "changed.safetensors", folder / "config", CPU, torch.float32)


def test_a_missing_tensor_is_named(copy: Path, checkpoint: dict[str, Tensor]) -> None:
    gone = "model.diffusion_model.time_embed.0.weight"
    with pytest.raises(WeightsFault, match=gone):
        load(copy, {key: tensor for key, tensor in checkpoint.items() if key != gone})


def test_a_stray_tensor_is_named(copy: Path, checkpoint: dict[str, Tensor]) -> None:
    with pytest.raises(WeightsFault, match="stray"):
        load(copy, checkpoint | {"model.diffusion_model.stray": torch.zeros(1)})


def test_a_tensor_of_another_shape_is_named(copy: Path, checkpoint: dict[str, Tensor]) -> None:
    key = "model.diffusion_model.out.2.bias"
    with pytest.raises(WeightsFault, match=key):
        load(copy, checkpoint | {key: torch.zeros(9)})


def test_what_real_checkpoints_carry_beside_the_weights_is_ignored(copy: Path, checkpoint: dict[str, Tensor]) -> None:
    load(
        copy,
        checkpoint
        | {
            "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": torch.zeros(1, 77),
            "conditioner.embedders.1.model.logit_scale": torch.zeros(()),
            "denoiser.sigmas": torch.zeros(1000),
        },
    )


def test_a_file_that_is_no_safetensors_is_refused(copy: Path) -> None:
    (copy / "bad.safetensors").write_bytes(b"pickle")
    with pytest.raises(WeightsFault, match="bad"):
        load_checkpoint(copy / "bad.safetensors", copy / "config", CPU, torch.float32)


def test_a_configuration_that_does_not_fit_is_refused(copy: Path, checkpoint: dict[str, Tensor]) -> None:
    path = copy / "config" / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"block_out_channels": [32, 64, 128, 256]}))
    with pytest.raises(WeightsFault, match="shape"):
        load(copy, checkpoint)


def test_real_sdxl_has_the_places_that_its_files_use() -> None:
    """At full size, without memory: names from the published checkpoints."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=128,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(320, 640, 1280),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
    keys = {place.key for place in unet_places(unet, unet.config).values()}
    assert len(keys) == 1680
    assert {
        "model.diffusion_model.input_blocks.7.1.transformer_blocks.9.attn2.to_k.weight",
        "model.diffusion_model.middle_block.1.proj_in.weight",
        "model.diffusion_model.output_blocks.2.2.conv.weight",
        "model.diffusion_model.output_blocks.8.0.skip_connection.bias",
        "model.diffusion_model.input_blocks.6.0.op.weight",
        "model.diffusion_model.label_emb.0.2.weight",
    } <= keys


def test_the_fused_projections_of_the_second_encoder_are_read_as_three(loaded: Components) -> None:
    places = second_text_places(loaded.text_encoders[1])
    parts = {place.part for place in places.values() if place.key.endswith("resblocks.0.attn.in_proj_weight")}
    assert parts == {0, 1, 2}
