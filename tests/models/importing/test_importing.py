"""Importing what users have: each layout becomes the same checkpoint."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.diffusers_layout import stored_component
from models.errors import ToolFault
from models.pocket import names
from pipelines.catalogue import Catalogue
from pipelines.parts import CONFIGS
from pipelines.weights.checkpoint import UNET, VAE, Components
from pipelines.weights.family import load_family
from tests.models.importing.layouts import CPU, Tensors, assert_holds, diffusers_folder, only, saved, schedule, without
from tests.pipelines.test_configs import model_of


def test_a_single_file_is_taken_as_it_is(run: Callable[..., str], pocket_family_folder: Path, families: Path) -> None:
    source = pocket_family_folder / names.CHECKPOINT
    said = run(source)
    assert said.startswith("pocket_xl.safetensors is an SDXL base checkpoint")
    assert (families / "pocket_xl" / "pocket_xl.safetensors").read_bytes() == source.read_bytes()
    assert load_family(families / "pocket_xl", CPU, torch.float32).catalogue.file.prediction == "epsilon"


def test_a_link_is_followed(
    run: Callable[..., str], pocket_family_folder: Path, tmp_path: Path, families: Path
) -> None:
    link = tmp_path / "linked.safetensors"
    link.symlink_to(pocket_family_folder / names.CHECKPOINT)
    run(link)
    assert not (families / "linked" / "linked.safetensors").is_symlink()


@pytest.mark.parametrize(("variant", "shard"), [(None, "5GB"), ("fp16", "5GB"), (None, "1MB"), ("fp16", "1MB")])
def test_a_diffusers_folder_becomes_the_checkpoint_that_it_came_from(
    run: Callable[..., str],
    components: Components,
    pocket: Tensors,
    tmp_path: Path,
    families: Path,
    variant: str | None,
    shard: str,
) -> None:
    folder = diffusers_folder(components, tmp_path / "mine", variant=variant, shard=shard)
    assert bool(list(folder.glob("unet/*.index*.json"))) == (shard == "1MB")
    assert "a diffusers folder of SDXL" in run(folder)
    assert_holds(families / "mine", pocket)


SDXL_NAMES = {  # as the published checkpoint has them, without what is recomputed: a count, and a shape that tells
    "unet": (1680, "model.diffusion_model.output_blocks.2.1.transformer_blocks.9.attn2.to_k.weight", (1280, 2048)),
    "vae": (248, "first_stage_model.decoder.mid.attn_1.proj_out.weight", (512, 512, 1, 1)),
    "text_encoder": (
        196,
        "conditioner.embedders.0.transformer.text_model.encoder.layers.11.self_attn.out_proj.weight",
        (768, 768),
    ),
    "text_encoder_2": (
        389,
        "conditioner.embedders.1.model.transformer.resblocks.31.attn.in_proj_weight",
        (3840, 1280),
    ),
}


@pytest.mark.parametrize("component", SDXL_NAMES)
def test_at_sdxls_own_size_the_names_are_sdxls_own(component: str) -> None:
    count, name, shape = SDXL_NAMES[component]
    config = CONFIGS / "sdxl_base"
    state = model_of(config / component).state_dict()
    found = stored_component(component, state, config, Path(component))
    assert len(found) == count
    assert found[name].shape == shape
    assert sum(tensor.numel() for tensor in found.values()) == sum(tensor.numel() for tensor in state.values())


def test_the_scheduler_of_a_folder_tells_how_it_was_trained(
    run: Callable[..., str], components: Components, tmp_path: Path, families: Path
) -> None:
    folder = diffusers_folder(components, tmp_path / "mine")
    schedule(folder, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    assert "served as v_prediction with zero terminal SNR" in run(folder)
    file = Catalogue.open(families / "mine").file
    assert (file.prediction, file.zero_terminal_snr) == ("v_prediction", True)


def test_markers_of_a_file_tell_how_it_was_trained(
    run: Callable[..., str], pocket: Tensors, tmp_path: Path, families: Path
) -> None:
    marked = without(pocket, VAE) | {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    vae = saved(only(pocket, VAE), tmp_path / "vae.safetensors")
    run(saved(marked, tmp_path / "noob.safetensors"), "--vae", vae)
    file = Catalogue.open(families / "noob").file
    assert (file.prediction, file.zero_terminal_snr) == ("v_prediction", True)


def test_what_no_file_says_is_said_by_options(
    run: Callable[..., str], pocket_family_folder: Path, families: Path
) -> None:
    run(pocket_family_folder / names.CHECKPOINT, "--name", "v", "--prediction", "v_prediction", "--zero-terminal-snr")
    file = Catalogue.open(families / "v").file
    assert (file.prediction, file.zero_terminal_snr) == ("v_prediction", True)


def test_an_option_that_a_file_contradicts_is_refused(
    run: Callable[..., str], pocket: Tensors, tmp_path: Path, families: Path
) -> None:
    vae = saved(only(pocket, VAE), tmp_path / "vae.safetensors")
    marked = saved(without(pocket, VAE) | {"v_pred": torch.zeros(0)}, tmp_path / "noob.safetensors")
    with pytest.raises(ToolFault, match="says that it predicts v"):
        run(marked, "--vae", vae, "--prediction", "epsilon")
    assert not any(families.iterdir())


@pytest.mark.parametrize("layout", ["original", "bare", "diffusers", "older diffusers"])
def test_a_vae_beside_a_checkpoint_is_put_in(
    run: Callable[..., str], components: Components, pocket: Tensors, tmp_path: Path, families: Path, layout: str
) -> None:
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    vae = only(pocket, VAE, VAE if layout == "original" else "")
    if "diffusers" in layout:
        vae = dict(components.vae.state_dict())
    if layout == "older diffusers":
        for newer, name in older.items():
            vae = {key.replace(f".{newer}.", f".{name}."): tensor for key, tensor in vae.items()}
    source = saved(without(pocket, VAE), tmp_path / "bald.safetensors")
    said = run(source, "--vae", saved(vae, tmp_path / "vae.safetensors"))
    assert "without a VAE" in said
    assert_holds(families / "bald", pocket)


def test_a_vae_that_is_given_replaces_the_checkpoints_own(
    run: Callable[..., str], pocket: Tensors, pocket_family_folder: Path, tmp_path: Path, families: Path
) -> None:
    other = {key: tensor + 1 for key, tensor in only(pocket, VAE).items()}
    run(pocket_family_folder / names.CHECKPOINT, "--vae", saved(other, tmp_path / "vae.safetensors"))
    assert_holds(families / "pocket_xl", pocket | only(other, "", VAE))


@pytest.mark.parametrize("layout", ["original", "inner", "bare", "diffusers"])
def test_a_unet_alone_takes_the_rest_from_another_family(
    run: Callable[..., str],
    components: Components,
    pocket: Tensors,
    pocket_family_folder: Path,
    tmp_path: Path,
    families: Path,
    layout: str,
) -> None:
    prefix = {"original": UNET, "inner": "diffusion_model."}.get(layout, "")
    unet = dict(components.unet.state_dict()) if layout == "diffusers" else only(pocket, UNET, prefix)
    unet = {key: tensor * 2 for key, tensor in unet.items()}
    source = saved(unet, tmp_path / "tuned.safetensors")
    said = run(source, "--base", pocket_family_folder, config=False)  # the base's configurations are taken along
    assert "the UNet alone of SDXL" in said
    doubled = {key: tensor * 2 if key.startswith(UNET) else tensor for key, tensor in pocket.items()}
    assert_holds(families / "tuned", doubled)
    load_family(families / "tuned", CPU, torch.float32)


def pipeline(components: Components) -> Tensors:
    """A pipeline in one file: diffusers' and transformers' names behind the name of each model."""
    models = {"unet": components.unet, "vae": components.vae}
    models |= dict(zip(("text_encoder", "text_encoder_2"), components.text_encoders, strict=True))
    return {f"{name}.{key}": tensor for name, model in models.items() for key, tensor in model.state_dict().items()}


def test_a_pipeline_in_one_file_by_diffusers_names_becomes_the_checkpoint(
    run: Callable[..., str], components: Components, pocket: Tensors, tmp_path: Path, families: Path
) -> None:
    said = run(saved(pipeline(components), tmp_path / "pipeline.safetensors"))
    assert "an SDXL base checkpoint, diffusers layout" in said
    assert_holds(families / "pipeline", pocket)


@pytest.mark.parametrize("lost", ["conditioner.embedders.0.", "conditioner.embedders.1."])
def test_one_text_encoder_is_no_use_and_both_are_taken_from_another_family(
    run: Callable[..., str],
    pocket: Tensors,
    pocket_family_folder: Path,
    tmp_path: Path,
    families: Path,
    lost: str,
) -> None:
    mine = {key: tensor * 2 for key, tensor in without(pocket, lost).items()}
    source = saved(mine, tmp_path / "half.safetensors")
    with pytest.raises(ToolFault, match="only one of SDXL's two text encoders: --base"):
        run(source)
    assert "with a VAE, one text encoder" in run(source, "--base", pocket_family_folder, config=False)
    text = "conditioner."
    assert_holds(families / "half", pocket | {key: tensor for key, tensor in mine.items() if not key.startswith(text)})


@pytest.mark.parametrize("vae", [False, True])
def test_a_unet_of_a_pipeline_alone_takes_the_rest_from_another_family(
    run: Callable[..., str],
    components: Components,
    pocket: Tensors,
    pocket_family_folder: Path,
    tmp_path: Path,
    families: Path,
    vae: bool,
) -> None:
    kept = ("unet.", "vae.") if vae else ("unet.",)
    tensors = {key: tensor * 2 for key, tensor in pipeline(components).items() if key.startswith(kept)}
    run(saved(tensors, tmp_path / "tuned.safetensors"), "--base", pocket_family_folder, config=False)
    doubled = (UNET, VAE) if vae else (UNET,)
    assert_holds(
        families / "tuned", {key: tensor * 2 if key.startswith(doubled) else tensor for key, tensor in pocket.items()}
    )


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("text_encoder_2.", "has only one of SDXL's two text encoders: --base"),
        ("text_encoder", "has no text encoders: --base"),
        ("vae.", "has no VAE: --vae"),
        ("unet.conv_out.bias", "lacks conv_out.bias"),
        ("vae.decoder.conv_out.bias", "lacks decoder.conv_out.bias"),
    ],
)
def test_a_pipeline_in_one_file_that_lacks_something_says_what(
    run: Callable[..., str], components: Components, tmp_path: Path, families: Path, gone: str, said: str
) -> None:
    tensors = without(pipeline(components), gone)
    with pytest.raises(ToolFault, match=said):
        run(saved(tensors, tmp_path / "pipeline.safetensors"))
    assert not families.exists() or not any(families.iterdir())


def test_a_tensor_of_no_model_of_a_pipeline_is_refused(
    run: Callable[..., str], components: Components, tmp_path: Path
) -> None:
    tensors = pipeline(components) | {"controlnet.conv_in.weight": torch.zeros(4)}
    with pytest.raises(ToolFault, match=r"has controlnet\.conv_in\.weight, for which the configuration has no place"):
        run(saved(tensors, tmp_path / "pipeline.safetensors"))
