"""The vision tower of image prompts, by both of the names that files have."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from models.published import CONFIGS
from pipelines.errors import WeightsFault
from pipelines.weights.image_prompt import tower_features
from pipelines.weights.vision_tower import FILE, read_tower
from tests.pipelines.weights import key_lists
from tests.pipelines.weights.key_lists import Keys
from tests.pipelines.weights.sparse import write_sparse

CPU, META = torch.device("cpu"), torch.device("meta")
PUBLISHED = 1_972_298_538  # bytes of the published file (fooocus-facts 9.1)
OPEN = {
    "class_embedding": "class_embedding",
    "position_embedding.weight": "positional_embedding",
    "patch_embedding.weight": "conv1.weight",
}


def folder_of(tmp_path: Path, keys: Keys) -> Path:
    """A folder with a file of these tensors, and the configuration that a pull writes beside it."""
    (tmp_path / "config.json").write_text(json.dumps(dict(CONFIGS["vision"]["config.json"])))
    write_sparse(tmp_path / FILE, keys)
    return tmp_path


def elements(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("keys", [key_lists.clip_h(), key_lists.clip_h_of_transformers()], ids=["open", "transformers"])
def test_vit_h_loads_whole_from_a_file_of_the_whole_model(tmp_path: Path, keys: Keys) -> None:
    assert elements(read_tower(folder_of(tmp_path, keys), META, torch.float16)) == 632_076_800


def test_the_list_is_that_of_the_published_file(tmp_path: Path) -> None:
    """Its size says so, to the byte: of its header, as safetensors writes it, and of its tensors."""
    told, end = {}, 0
    for name, shape in sorted(key_lists.clip_h().items()):
        begin, end = end, end + 2 * torch.Size(shape).numel()
        told[name] = {"dtype": "F16", "shape": [*shape], "data_offsets": [begin, end]}
    header = len(json.dumps(told, separators=(",", ":")))
    assert 8 + -(-header // 8) * 8 + end == PUBLISHED


@pytest.mark.parametrize(
    ("keys", "gone"),
    [
        (key_lists.clip_h(), "visual.transformer.resblocks.31.attn.in_proj_bias"),
        (key_lists.clip_h(), "visual.proj"),
        (key_lists.clip_h_of_transformers(), "vision_model.encoder.layers.31.mlp.fc2.weight"),
    ],
)
def test_what_is_missing_is_named_as_the_file_has_it(tmp_path: Path, keys: Keys, gone: str) -> None:
    with pytest.raises(WeightsFault, match=f"lacks {gone};"):
        read_tower(folder_of(tmp_path, {name: keys[name] for name in keys if name != gone}), META, torch.float16)


@pytest.mark.parametrize(
    "more", [{"visual.strange": (3,)}, {"visual.ln_pre.weight": (4,)}, {"vision_model.x": (1,)}], ids=str
)
def test_what_has_no_place_or_another_shape_is_refused(tmp_path: Path, more: Keys) -> None:
    with pytest.raises(WeightsFault, match=next(iter(more))):
        read_tower(folder_of(tmp_path, key_lists.clip_h() | more), META, torch.float16)


@pytest.fixture(scope="module")
def tower(pocket_family_folder: Path) -> CLIPVisionModelWithProjection:
    """As transformers loads it."""
    folder = pocket_family_folder / "image_prompt" / "clip_vision"
    return CLIPVisionModelWithProjection.from_pretrained(folder, local_files_only=True).float().eval()


def opened(tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of transformers' tower as OpenCLIP has them."""
    parts = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    for name, tensor in tensors.items():
        stem, _, kind = name.removeprefix("vision_model.").rpartition(".")
        if name == "visual_projection.weight":
            yield "visual.proj", tensor.T.contiguous()
        elif name.startswith("vision_model.embeddings."):
            yield f"visual.{OPEN[name.removeprefix('vision_model.embeddings.')]}", tensor
        elif not stem.startswith("encoder."):
            yield f"visual.{ {'pre_layrnorm': 'ln_pre', 'post_layernorm': 'ln_post'}[stem] }.{kind}", tensor
        elif stem.endswith("q_proj"):
            joined = [tensors[name.replace("q_proj", f"{role}_proj")] for role in "qkv"]
            yield f"visual.transformer.resblocks.{stem.split('.')[2]}.attn.in_proj_{kind}", torch.cat(joined)
        elif not stem.endswith(("k_proj", "v_proj")):
            _, _, layer, part = stem.split(".", 3)
            inner = parts.get(part, "attn.out_proj")
            yield f"visual.transformer.resblocks.{layer}.{inner}.{kind}", tensor


@pytest.mark.parametrize("renamed", [False, True], ids=["transformers", "open"])
def test_the_tower_sees_as_transformers_own_does(
    pocket_family_folder: Path, tmp_path: Path, tower: CLIPVisionModelWithProjection, renamed: bool
) -> None:
    folder = pocket_family_folder / "image_prompt" / "clip_vision"
    if renamed:
        (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
        save_file(dict(opened(load_file(folder / FILE))), tmp_path / FILE)
        folder = tmp_path
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = tower_features(read_tower(folder, CPU, torch.float32), pixels)
        torch.testing.assert_close(found, tower_features(tower, pixels), atol=0, rtol=0)
