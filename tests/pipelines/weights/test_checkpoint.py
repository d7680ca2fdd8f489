"""Loading a checkpoint: diffusers agrees on what it holds, nothing is fetched, and no fault goes unseen."""

import json
import re
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks import sdxl
from models.pocket.layout import stored_first_text, stored_second_text, stored_unet, stored_vae
from pipelines.errors import WeightsFault
from pipelines.weights.checkpoint import Components, load_checkpoint
from tests.pipelines.weights.sparse import write_sparse

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


@pytest.fixture
def load_shapes(
    pocket_family_folder: Path, checkpoint: dict[str, Tensor], tmp_path: Path
) -> Callable[[Mapping[str, Sequence[int] | None]], Components]:
    """Loads the checkpoint with other shapes of some tensors; None is a tensor that is not there."""

    def load(changes: Mapping[str, Sequence[int] | None]) -> Components:
        wanted = {**{key: tensor.shape for key, tensor in checkpoint.items()}, **changes}
        path = write_sparse(
            tmp_path / "a.safetensors", {key: shape for key, shape in wanted.items() if shape is not None}
        )
        return load_checkpoint(path, pocket_family_folder / "config", torch.device("meta"), torch.float32)

    return load


VAE, SECOND = "first_stage_model.", "conditioner.embedders.1.model."
FIRST = "conditioner.embedders.0.transformer.text_model."
ATTENTION = f"{SECOND}transformer.resblocks.3.attn."


@pytest.mark.parametrize(
    "gone",
    [
        "model.diffusion_model.label_emb.0.2.weight",
        "model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight",
        "model.diffusion_model.output_blocks.2.2.conv.bias",
        f"{VAE}encoder.down.0.block.0.norm1.weight",
        f"{VAE}decoder.up.1.upsample.conv.bias",
        f"{VAE}decoder.mid.attn_1.q.bias",
        f"{VAE}post_quant_conv.weight",
        f"{FIRST}encoder.layers.1.mlp.fc1.weight",
        f"{ATTENTION}in_proj_bias",
        f"{SECOND}transformer.resblocks.0.ln_1.weight",
    ],
)
def test_a_missing_tensor_of_any_model_is_named(load_shapes: Callable[..., Components], gone: str) -> None:
    with pytest.raises(WeightsFault, match=f"lacks {re.escape(gone)};"):
        load_shapes({gone: None})


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("model.diffusion_model.input_blocks.0.0.weight", (1,)),
        (f"{VAE}decoder.mid.attn_1.q.weight", (32, 32, 3, 3)),
        (f"{FIRST}final_layer_norm.bias", ()),
        (f"{ATTENTION}in_proj_weight", (9,)),
        (f"{ATTENTION}in_proj_bias", (9,)),
        (f"{SECOND}text_projection", (9, 9)),
        (f"{SECOND}text_projection", (2, 3, 4)),
        (f"{SECOND}text_projection", ()),
        (f"{SECOND}strange", ()),
        (f"{SECOND}transformer.resblocks.3.strange", (2,)),
        (f"{VAE}decoder.mid.attn_1.query.weight", (2,)),
        (f"{VAE}strange", (0,)),
    ],
)
def test_a_tensor_of_any_shape_that_is_not_the_configurations_is_named(
    load_shapes: Callable[..., Components], key: str, shape: tuple[int, ...]
) -> None:
    load_shapes({})
    with pytest.raises(WeightsFault, match=re.escape(key)):
        load_shapes({key: shape})


def test_a_file_of_another_kind_is_refused(copy: Path) -> None:
    with pytest.raises(WeightsFault, match="lacks"):
        load(copy, {"a": torch.zeros(1)})


def test_nothing_keeps_more_memory_than_its_own(loaded: Components) -> None:
    """Parts of a stored tensor would keep the whole."""
    for module in (loaded.unet, loaded.vae, *loaded.text_encoders):
        for name, tensor in module.named_parameters():
            assert tensor.untyped_storage().nbytes() == tensor.nbytes, name


def test_real_sdxl_fits_the_published_configuration(tmp_path: Path) -> None:
    """At full size, by the names and shapes of the published files."""
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel.from_config(dict(sdxl.UNET)), AutoencoderKL.from_config(dict(sdxl.VAE))
        configs = [CLIPTextConfig(**shape) for shape in (sdxl.FIRST_TEXT, sdxl.SECOND_TEXT)]
        first, second = CLIPTextModel(configs[0]), CLIPTextModelWithProjection(configs[1])
    parts = (stored_unet(unet), stored_vae(vae), stored_first_text(first), stored_second_text(second))
    assert [len(part) for part in parts] == [1680, 248, 196, 389]
    shapes = {key: tuple(tensor.shape) for part in parts for key, tensor in part.items()}
    assert (
        shapes.items()
        >= {
            "model.diffusion_model.input_blocks.7.1.transformer_blocks.9.attn2.to_k.weight": (1280, 2048),
            "model.diffusion_model.middle_block.1.proj_in.weight": (1280, 1280),
            "model.diffusion_model.output_blocks.2.2.conv.weight": (1280, 1280, 3, 3),
            "model.diffusion_model.output_blocks.8.0.skip_connection.bias": (320,),
            "model.diffusion_model.input_blocks.6.0.op.weight": (640, 640, 3, 3),
            "model.diffusion_model.label_emb.0.0.weight": (1280, 2816),
            f"{VAE}encoder.down.1.block.0.nin_shortcut.weight": (256, 128, 1, 1),
            f"{VAE}decoder.up.3.upsample.conv.weight": (512, 512, 3, 3),
            f"{VAE}decoder.mid.attn_1.proj_out.weight": (512, 512, 1, 1),
            f"{FIRST}encoder.layers.11.mlp.fc1.weight": (3072, 768),
            f"{SECOND}transformer.resblocks.31.attn.in_proj_weight": (3840, 1280),
            f"{SECOND}transformer.resblocks.31.mlp.c_proj.weight": (1280, 5120),
            f"{SECOND}positional_embedding": (77, 1280),
            f"{SECOND}text_projection": (1280, 1280),
        }.items()
    )
    idle = {f"{FIRST}embeddings.position_ids": (1, 77), f"{SECOND}logit_scale": ()}
    for name, config in zip(
        ("unet", "vae", "text_encoder", "text_encoder_2"), (sdxl.UNET, sdxl.VAE, *configs), strict=True
    ):
        (tmp_path / name).mkdir()
        told = config.to_dict() if isinstance(config, CLIPTextConfig) else dict(config)
        (tmp_path / name / "config.json").write_text(json.dumps(told))
    path = write_sparse(tmp_path / "sdxl.safetensors", shapes | idle)
    found = load_checkpoint(path, tmp_path, torch.device("meta"), torch.float16)
    assert sum(parameter.numel() for parameter in found.unet.parameters()) == 2_567_463_684
