"""Whatever a user may take for a checkpoint ends in one sentence that says what it is, and leaves nothing behind."""

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from models.errors import ToolFault
from models.pocket import names
from pipelines.weights.checkpoint import UNET, Components
from tests.models.importing.layouts import Tensors, diffusers_folder, only, saved
from tests.pipelines.weights.sparse import write_sparse

TO_K = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"

BY_NAMES: Mapping[str, tuple[Mapping[str, tuple[int, ...]], str]] = {  # of tensors -> what it is
    "SD 2": ({TO_K: (8, 1024), "cond_stage_model.model.a": (1,)}, "is Stable Diffusion 2, and not SDXL"),
    "SD 2 unCLIP": ({TO_K: (8, 1024), f"{UNET}label_emb.0.0.weight": (8, 8)}, "is Stable Diffusion 2, and not SDXL"),
    "SD 3": (
        {f"{UNET}joint_blocks.0.x_block.attn.qkv.weight": (8, 8), "first_stage_model.decoder.conv_in.weight": (8,)},
        "is Stable Diffusion 3, and not SDXL",
    ),
    "SD 3, the transformer alone": ({"a.joint_blocks.0.x_block.attn.qkv.weight": (8, 8)}, "Stable Diffusion 3"),
    "Flux": ({"double_blocks.0.img_attn.qkv.weight": (8, 8)}, "is Flux, and not SDXL"),
    "Flux, whole": ({f"{UNET}double_blocks.0.img_attn.qkv.weight": (8, 8)}, "is Flux, and not SDXL"),
    "Flux of diffusers": ({"single_transformer_blocks.0.attn.to_q.weight": (8, 8)}, "is Flux, and not SDXL"),
    "video": (
        {f"{UNET}input_blocks.1.1.time_stack.0.attn2.to_k.weight": (8, 1024), f"{UNET}label_emb.0.0.weight": (8, 8)},
        "is Stable Video Diffusion, and not SDXL",
    ),
    "motion module": ({"down_blocks.0.motion_modules.0.temporal_transformer.norm.weight": (8,)}, "no model that is"),
    "LoHa": ({"lora_unet_mid.hada_w1_a": (8, 8)}, "is a LoRA and no base model"),
    "Flux LoRA": ({"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": (8, 8)}, "is a LoRA"),
    "ControlNet": ({"control_model.input_blocks.0.0.weight": (8, 4, 3, 3)}, "is a ControlNet, and no base model"),
    "ControlNet of diffusers": (
        {"controlnet_cond_embedding.conv_in.weight": (8,), "down_blocks.0.resnets.0.conv1.weight": (8,)},
        "is a ControlNet, and no base model",
    ),
    "CLIP of transformers": ({"text_model.encoder.layers.0.mlp.fc1.weight": (8, 8)}, "is a text encoder alone"),
    "CLIP without a prefix": ({"encoder.layers.0.mlp.fc1.weight": (8, 8)}, "is a text encoder alone"),
    "OpenCLIP": ({"transformer.resblocks.0.mlp.c_fc.weight": (8, 8)}, "is a text encoder alone"),
    "embedding of SDXL": ({"clip_g": (1, 8), "clip_l": (1, 8)}, r"is an embedding \(textual inversion\)"),
    "embedding of SD 1.5": ({"emb_params": (1, 8)}, r"is an embedding \(textual inversion\)"),
    "upscaler": ({"conv_first.weight": (8,), "body.0.rdb1.conv1.weight": (8,)}, "is an upscaler, and no base model"),
    "language model": ({"model.layers.0.self_attn.q_proj.weight": (8, 8)}, "is no model that is known here"),
    "nothing": ({}, "is no model that is known here"),
    "nf4": (
        {f"{UNET}label_emb.0.0.weight": (8, 8), f"{UNET}out.2.weight.quant_state.bitsandbytes__nf4": (9,)},
        "is quantised to nf4 by bitsandbytes, which is not read",
    ),
}


def is_refused(run: Callable[..., str], families: Path, source: Path, said: str, *options: object) -> None:
    before = sorted(source.parent.iterdir())
    with pytest.raises(ToolFault, match=said) as fault:
        run(source, *options)
    assert "\n" not in str(fault.value)
    assert len(str(fault.value)) < 500
    assert not families.exists() or not any(families.iterdir())
    assert [path for path in sorted(source.parent.iterdir()) if path != families] == before


@pytest.mark.parametrize("kind", BY_NAMES)
def test_what_names_tell_is_told(run: Callable[..., str], tmp_path: Path, families: Path, kind: str) -> None:
    shapes, said = BY_NAMES[kind]
    is_refused(run, families, write_sparse(tmp_path / "given.safetensors", shapes), said)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (f"control/{names.CONTROLS['canny']}", "is a control-LoRA, and no base model"),
        (f"image_prompt/{names.IMAGE_PROMPTS['image_prompt']}", "is an image-prompt adapter"),
        ("image_prompt/clip_vision/model.safetensors", "is a vision tower"),
        (f"inpaint/{names.INPAINT_PATCH}", "is an inpaint patch"),
        (f"inpaint/{names.INPAINT_HEAD}", "is no model that is known here"),
        (f"upscale/{names.UPSCALER}", "is an upscaler"),
        (f"embeddings/{names.CONCEPT}", "is an embedding"),
        ("expansion/model.safetensors", "is no model that is known here"),
    ],
)
def test_parts_of_a_family_are_told(
    run: Callable[..., str], pocket_family_folder: Path, tmp_path: Path, families: Path, part: str, said: str
) -> None:
    source = tmp_path / "given.safetensors"
    shutil.copy(pocket_family_folder / part, source)
    is_refused(run, families, source, said)
    is_refused(run, families, source, said, "--base", pocket_family_folder)


def headed(header: bytes, body: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + body


ONE = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
BYTES: Mapping[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty"),
    "short": (b"abc", "cannot be read as safetensors"),
    "a header longer than the file": (headed(ONE + b"}", bytes(4))[:20], "is cut short"),
    "a length beyond all bounds": (b"\xff" * 64, "does not begin like one"),
    "a header that is no JSON": (headed(b"{" + b"x" * 30), "its header is damaged"),
    "a header that is no text": (headed(b"{\xff\xfe}"), "its header is damaged"),
    "a header that nests": (headed(b'{"a":' * 100_000), "its header is damaged"),
    "a name twice": (headed(ONE + b"," + ONE[1:] + b"}", bytes(4)), "it has a name twice"),
    "places that overlap": (headed(ONE + b',"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)), "read"),
    "a shape that its place denies": (headed(ONE.replace(b"[1]", b"[9]") + b"}", bytes(4)), "cannot be read"),
    "a shape below nothing": (headed(ONE.replace(b"[1]", b"[-1]") + b"}", bytes(4)), "cannot be read"),
    "a dtype of nobody": (headed(ONE.replace(b"F32", b"X99") + b"}", bytes(4)), "cannot be read"),
    "bytes behind the last tensor": (headed(ONE + b"}", bytes(9)), "behind its last tensor"),
    "a tensor cut short": (headed(ONE + b"}", bytes(3)), "is cut short"),
    "a login page": (b"<!DOCTYPE html><html><title>Sign in</title></html>", "a page of text"),
    "JSON of an error": (b'{"error": "Repository not found or gated, please log in"}', "cannot be read"),
    "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "cannot be read"),
    "GGUF": (b"GGUF\x03\x00\x00\x00" + bytes(64), "it is a GGUF file"),
    "ONNX": (b"\x08\x07\x12\x07pytorch\x1a\x051.13\x00" + bytes(64), "cannot be read as safetensors"),
    "an old pickle": (pickle.dumps({"params_ema": {}}), "is a pickle"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(64), "cannot be read as safetensors"),
}


@pytest.mark.parametrize("kind", BYTES)
def test_what_is_no_safetensors_file_is_told(
    run: Callable[..., str], pocket_family_folder: Path, tmp_path: Path, families: Path, kind: str
) -> None:
    content, said = BYTES[kind]
    source = tmp_path / "given.safetensors"
    source.write_bytes(content)
    is_refused(run, families, source, said)
    is_refused(run, families, source, "read|cut short|known", "--base", pocket_family_folder)
    with pytest.raises(ToolFault, match=r"read|cut short|--vae takes"):
        run(pocket_family_folder / names.CHECKPOINT, "--vae", source)
    assert not families.exists()


def test_archives_are_told(run: Callable[..., str], tmp_path: Path, families: Path) -> None:
    torch.save({"params_ema": {"conv_first.weight": torch.zeros(4)}}, tmp_path / "RealESRGAN_x4.pth")
    is_refused(run, families, tmp_path / "RealESRGAN_x4.pth", "is a pickle or an archive")
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("model.safetensors", b"")
    is_refused(run, families, tmp_path / "model.zip", "is a pickle or an archive")


def test_what_is_neither_file_nor_folder_is_told(run: Callable[..., str], tmp_path: Path, families: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    is_refused(run, families, tmp_path / "pipe", "neither a file nor a folder")
    (tmp_path / "empty").mkdir()
    is_refused(run, families, tmp_path / "empty", "no model_index.json")
    (tmp_path / "broken").symlink_to(tmp_path / "gone")
    is_refused(run, families, tmp_path / "broken", "There is no")


def test_an_option_that_names_nothing_is_told(
    run: Callable[..., str], pocket_family_folder: Path, tmp_path: Path, families: Path
) -> None:
    source, gone = pocket_family_folder / names.CHECKPOINT, tmp_path / "gone"
    is_refused(run, families, source, "--vae takes a file, and .*gone is none", "--vae", gone)
    with pytest.raises(ToolFault, match=r"--config takes a folder of configurations, and .*gone is no folder"):
        run(source, "--config", gone, config=False)


@pytest.mark.parametrize(
    ("place", "content", "said"),
    [
        ("model_index.json", "[]", "holds no JSON object"),
        ("model_index.json", "{", "cannot be read"),
        ("model_index.json", '{"_class_name": "FluxPipeline"}', "FluxPipeline, which is not SDXL"),
        ("unet/diffusion_pytorch_model.safetensors.index.json", '{"weight_map": 5}', "is no index of shards"),
        (
            "unet/diffusion_pytorch_model.safetensors.index.json",
            '{"weight_map": {"a": "../../../etc/passwd"}}',
            "names a file outside its folder",
        ),
        ("unet/diffusion_pytorch_model.safetensors.index.json", '{"weight_map": {"a": "b"}}', "cannot be read"),
        ("unet/diffusion_pytorch_model.safetensors.index.json", '{"weight_map": {}}', "lacks .* and .* more"),
        ("scheduler/scheduler_config.json", '{"prediction_type": ["epsilon"]}', "which is not supported"),
        ("vae/config.json", "[]", "holds no JSON object"),
    ],
)
def test_a_folder_with_a_strange_file_is_told(
    run: Callable[..., str],
    components: Components,
    tmp_path: Path,
    families: Path,
    place: str,
    content: str,
    said: str,
) -> None:
    folder = diffusers_folder(components, tmp_path / "mine", shard="1MB")
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).write_text(content)
    is_refused(run, families, folder, said)


@pytest.mark.parametrize("lost", ["*-00002-of-*", "*-00001-of-*"])
def test_a_folder_that_lacks_a_shard_is_told(
    run: Callable[..., str], components: Components, tmp_path: Path, families: Path, lost: str
) -> None:
    folder = diffusers_folder(components, tmp_path / "mine", shard="1MB")
    shard = next(folder.glob(f"unet/{lost}"))
    shard.unlink()
    is_refused(run, families, folder, f"{shard.name} cannot be read")


def test_markers_alone_do_not_help(run: Callable[..., str], pocket: Tensors, tmp_path: Path, families: Path) -> None:
    first = only(pocket, "conditioner.embedders.0.", "conditioner.embedders.0.")
    is_refused(run, families, saved(first, tmp_path / "text.safetensors"), "is no model that is known here")
    metadata = {"modelspec.architecture": "stable-diffusion-xl-v1-base", "config": json.dumps({"a": 1})}
    is_refused(run, families, write_sparse(tmp_path / "told.safetensors", {"a": (1,)}, metadata=metadata), "no model")
