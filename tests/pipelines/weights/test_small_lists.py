"""Control-LoRA, inpaint head and patch, and the published LoRAs at full shape: whole, and with one thing wrong."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pipelines.errors import InputFault, WeightsFault
from pipelines.parts import CONFIGS
from pipelines.weights.checkpoint import read_config
from pipelines.weights.control_lora import build_control
from pipelines.weights.esrgan import read_upscaler
from pipelines.weights.inpaint import LEVELS, RANGE, patched_keys, read_head
from pipelines.weights.lora.matching import MAX_UNMATCHED, Targets
from pipelines.weights.lora.reading import read_lora
from tests.pipelines.weights import key_lists, small_lists
from tests.pipelines.weights.key_lists import Keys
from tests.pipelines.weights.sparse import write_sparse

MB = 10**6
EXTRA = "input_blocks.99.0.weight"


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    with torch.device("meta"):
        made: UNet2DConditionModel = UNet2DConditionModel.from_config(read_config(CONFIGS / "sdxl_base" / "unet"))
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def targets(unet: UNet2DConditionModel) -> Targets:
    with torch.device("meta"):
        first = CLIPTextModel(CLIPTextConfig(**read_config(CONFIGS / "sdxl_base" / "text_encoder")))
        second = CLIPTextModelWithProjection(CLIPTextConfig(**read_config(CONFIGS / "sdxl_base" / "text_encoder_2")))
    return Targets(unet, (first, second))


def mutations(keys: Keys, gone: str) -> Mapping[str, Keys]:
    """One key more, one less, one shape wrong."""
    shape = keys[gone]
    return {
        "more": {**keys, EXTRA: (4, 4)},
        "less": {name: each for name, each in keys.items() if name != gone},
        "shape": {**keys, gone: (shape[0] + 1, *shape[1:])},
    }


def test_a_control_lora_of_rank_128_is_used_whole(tmp_path: Path, unet: UNet2DConditionModel) -> None:
    path = write_sparse(tmp_path / "control-lora-canny-rank128.safetensors", small_lists.control_lora())
    assert round(path.stat().st_size / MB) == 396  # as it is published
    network = build_control(unet, path)
    assert len(network.controlnet_down_blocks) == len(small_lists.SKIPS)
    assert sum(each.numel() for each in network.parameters()) == 1_251_014_160  # of SDXL's published ControlNets


@pytest.mark.parametrize(
    "gone", ["zero_convs.8.0.bias", "middle_block.1.transformer_blocks.9.attn2.to_k.up", "time_embed.2.down"]
)
@pytest.mark.parametrize("change", ["more", "less", "shape"])
def test_a_control_lora_with_one_thing_wrong_is_refused(
    tmp_path: Path, unet: UNet2DConditionModel, gone: str, change: str
) -> None:
    path = write_sparse(tmp_path / "a.safetensors", mutations(small_lists.control_lora(), gone)[change])
    said = {"more": "without a place", "less": "lacks|without a place", "shape": "another shape"}[change]
    with pytest.raises(WeightsFault, match=said):
        build_control(unet, path)


def test_the_inpaint_head_of_the_published_size(tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "fooocus_inpaint_head.safetensors", {"head": (320, 5, 3, 3)}, "F32")
    assert read_head(path).shape == (320, 5, 3, 3)


@pytest.mark.parametrize("keys", [{}, {"head": (320, 5, 3, 3), "more": (1,)}, {"head": (320, 9, 3, 3)}])
def test_a_head_with_one_thing_wrong_is_refused(tmp_path: Path, keys: Keys) -> None:
    with pytest.raises(WeightsFault):
        read_head(write_sparse(tmp_path / "a.safetensors", keys))


def write_patch(path: Path, levels: Keys, ranges: Keys) -> Path:
    return write_sparse(path, {**levels, **ranges}, "F32", others=dict.fromkeys(levels, "U8"))


def test_a_patch_of_every_parameter_is_used_whole(tmp_path: Path, unet: UNet2DConditionModel) -> None:
    path = write_patch(tmp_path / "inpaint_v25.fooocus.patch.safetensors", *small_lists.inpaint_patch())
    assert round(path.stat().st_size / MB, -2) == 2600  # as it is published
    assert patched_keys(path, unet).keys() == dict(unet.named_parameters()).keys()


def test_a_patch_of_some_parameters_is_used_whole(tmp_path: Path, unet: UNet2DConditionModel) -> None:
    """Engine v2.6 changes 960 of the 1680; which, no document says."""
    levels, ranges = small_lists.inpaint_patch()
    some = list(levels)[-960:]
    kept = [name.replace(LEVELS, RANGE) for name in some]
    path = write_patch(
        tmp_path / "a.safetensors", {name: levels[name] for name in some}, {name: ranges[name] for name in kept}
    )
    assert len(patched_keys(path, unet)) == 960


@pytest.mark.parametrize("change", ["more", "less", "shape"])
@pytest.mark.parametrize("side", ["levels", "range"])
def test_a_patch_with_one_thing_wrong_is_refused(
    tmp_path: Path, unet: UNet2DConditionModel, side: str, change: str
) -> None:
    levels, ranges = small_lists.inpaint_patch()
    gone = f"diffusion_model.output_blocks.2.1.transformer_blocks.9.ff.net.2.weight.{side}"
    if side == "levels":
        levels = dict(mutations(levels, gone)[change])
    else:
        ranges = dict(mutations(ranges, gone)[change])
    said = {"more": "without a place", "less": "without a place|lacks", "shape": "another shape"}[change]
    with pytest.raises(WeightsFault, match=said):
        patched_keys(write_patch(tmp_path / "a.safetensors", levels, ranges), unet)


@pytest.mark.parametrize("name", ["RDB", "residual_block_"])
def test_the_upscaler_is_used_whole(tmp_path: Path, name: str) -> None:
    keys = {key.replace("RDB", name): shape for key, shape in small_lists.upscaler().items()}
    path = write_sparse(tmp_path / "fooocus_upscaler_s409985e5.safetensors", keys)
    assert abs(path.stat().st_size - 33.6 * MB) < MB / 5  # as it is published, in a pickle
    assert len(dict(read_upscaler(path).named_parameters())) == len(keys)


@pytest.mark.parametrize("change", ["more", "less", "shape"])
def test_an_upscaler_with_one_thing_wrong_is_refused(tmp_path: Path, change: str) -> None:
    changed = mutations(small_lists.upscaler(), "model.1.sub.22.RDB3.conv5.0.weight")[change]
    path = write_sparse(tmp_path / "a.safetensors", changed)
    with pytest.raises(WeightsFault, match="is of another architecture") as fault:
        read_upscaler(path)
    assert "\n" not in str(fault.value)


LORAS = {
    "sdxl_lcm_lora, sdxl_lightning_4step_lora": (small_lists.kohya(small_lists.distilled(), 64), 788, 394),
    "sdxl_hyper_sd_4step_lora": (small_lists.kohya(small_lists.distilled(), 128), 788, 787),
    "of kohya's trainer": (
        {
            **small_lists.kohya(small_lists.original_attentions(), 8),
            **small_lists.kohya(small_lists.text_layers(768, 3072, 12), 8, "lora_te1_"),
            **small_lists.kohya(small_lists.text_layers(1280, 5120, 32), 8, "lora_te2_"),
        },
        700 + 6 * (12 + 32),
        None,
    ),
    "of diffusers": (small_lists.peft(small_lists.distilled(), 64), 788, 394),
}


@pytest.mark.parametrize("name", LORAS)
def test_a_published_lora_is_used_whole(tmp_path: Path, targets: Targets, name: str) -> None:
    keys, layers, size = LORAS[name]
    path = write_sparse(tmp_path / "a.safetensors", keys)
    assert size is None or round(path.stat().st_size / MB) == size  # as it is published
    found = targets.match(read_lora(path))
    assert (len(found.layers), found.unmatched) == (layers, ())


def test_changes_of_every_norm_and_every_bias_find_their_places(tmp_path: Path, targets: Targets) -> None:
    """As LyCORIS writes them, over the original names of the UNet and transformers' of the first text encoder."""
    models = key_lists.unet(key_lists.SDXL_BASE, "lora_unet_") | key_lists.clip_l("lora_te1_")
    keys: Keys = {}
    for name, shape in models.items():
        layer, _, kind = name.rpartition(".")
        norm = len(models.get(f"{layer}.weight", ())) == 1
        if len(shape) == 1 and kind in ("weight", "bias"):
            keys[f"{layer.replace('.', '_')}.{f'{kind[0]}_norm' if norm else 'diff_b'}"] = shape
    assert {name.rpartition(".")[2] for name in keys} == {"w_norm", "b_norm", "diff_b"}
    found = targets.match(read_lora(write_sparse(tmp_path / "a.safetensors", keys)))
    assert (len(found.layers), found.unmatched) == (len(keys), ())


def test_the_size_of_hyper_sds_lora_is_the_published_one(tmp_path: Path) -> None:
    """To the last byte, but for the header, which the writer of a file words and orders as it likes."""
    keys, _, _ = LORAS["sdxl_hyper_sd_4step_lora"]
    size = write_sparse(tmp_path / "a.safetensors", keys).stat().st_size
    assert abs(size - 787_359_648) < 100_000


@pytest.mark.parametrize("change", ["more", "shape"])
def test_a_lora_with_one_thing_wrong_tells_it(tmp_path: Path, targets: Targets, change: str) -> None:
    """Up to a dozen tensors without a place are told, as Fooocus has it; more are refused."""
    keys = small_lists.kohya(small_lists.distilled(), 4)
    gone = "lora_unet_mid_block_attentions_0_transformer_blocks_9_attn2_to_k.lora_up.weight"
    path = write_sparse(tmp_path / "a.safetensors", mutations(keys, gone)[change])
    found = targets.match(read_lora(path))
    assert len(found.layers) == (788 if change == "more" else 787)
    assert 0 < len(found.unmatched) <= MAX_UNMATCHED
    assert all("attn2_to_k" in name or name == EXTRA for name in found.unmatched)


def test_a_lora_that_lacks_one_tensor_is_refused(tmp_path: Path, targets: Targets) -> None:
    keys = small_lists.kohya(small_lists.distilled(), 4)
    gone = "lora_unet_mid_block_attentions_0_transformer_blocks_9_attn2_to_k.lora_up.weight"
    path = write_sparse(tmp_path / "a.safetensors", mutations(keys, gone)["less"])
    with pytest.raises(InputFault, match=r"attn2_to_k has alpha, down and lacks up\.$"):
        targets.match(read_lora(path))


def test_a_lora_of_another_architecture_is_refused(tmp_path: Path, targets: Targets) -> None:
    """Stable Diffusion 1.5's, whose names are partly SDXL's."""
    layers = {
        name.removesuffix(".weight"): shape
        for name, shape in key_lists.unet(key_lists.SD15, "").items()
        if ".1." in name and name.endswith(".weight") and len(shape) > 1
    }
    path = write_sparse(tmp_path / "a.safetensors", small_lists.kohya(layers, 4))
    with pytest.raises(InputFault, match=r"made for Stable Diffusion 1\.5 and does not fit the model"):
        targets.match(read_lora(path))
