"""Importing what users have: each layout becomes the same checkpoint, and a refusal leaves nothing behind."""

import argparse
import errno
import json
import os
import pickle
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.__main__ import main
from models.diffusers_layout import stored_component
from models.errors import ToolFault
from models.importing import add_import
from models.pocket import names
from pipelines.catalogue import CONFIGS, Catalogue
from pipelines.weights.checkpoint import UNET, VAE, Components, load_checkpoint
from pipelines.weights.family import load_family
from pipelines.weights.integrity import fault_of
from tests.pipelines.test_configs import model_of

CPU = torch.device("cpu")
Tensors = dict[str, Tensor]
SDXL_FOLDER = ("unet", "vae", "text_encoder", "text_encoder_2")


@pytest.fixture(scope="module")
def pocket(pocket_family_folder: Path) -> Tensors:
    return load_file(pocket_family_folder / names.CHECKPOINT)


@pytest.fixture(scope="module")
def components(pocket_family_folder: Path) -> Components:
    checkpoint, config = pocket_family_folder / names.CHECKPOINT, pocket_family_folder / "config"
    return load_checkpoint(checkpoint, config, CPU, torch.float16)


@pytest.fixture(autouse=True)
def families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOOOCUS_FAMILIES", str(tmp_path / "families"))
    return tmp_path / "families"


@pytest.fixture
def run(pocket_family_folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `import` on what is of the pocket model's size; answers what was said."""

    def run(source: Path, *options: object, config: bool = True) -> str:
        parser = argparse.ArgumentParser()
        add_import(parser.add_subparsers())
        given = ["--config", pocket_family_folder / "config"] if config else []
        args = parser.parse_args(["import", str(source), *map(str, [*given, *options])])
        assert args.run(args) == 0
        said = capsys.readouterr().out
        assert said.count("\n") == 1
        return said

    return run


def without(tensors: Tensors, *prefixes: str) -> Tensors:
    return {key: tensor for key, tensor in tensors.items() if not key.startswith(prefixes)}


def only(tensors: Tensors, prefix: str, renamed: str = "") -> Tensors:
    return {renamed + key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def saved(tensors: Tensors, path: Path) -> Path:
    save_file(tensors, path)
    return path


def assert_holds(folder: Path, wanted: Tensors) -> None:
    """The family has this checkpoint, and its record is right."""
    catalogue = Catalogue.open(folder)
    found = load_file(catalogue.checkpoint)
    assert found.keys() == wanted.keys()
    for key, tensor in wanted.items():
        assert torch.equal(found[key], tensor), key
    (path, record), *more = catalogue.file.files.items()
    assert not more
    assert fault_of(folder / path, record, all_bytes=True) is None


def diffusers_folder(components: Components, folder: Path, *, variant: str | None = None, shard: str = "5GB") -> Path:
    """As diffusers and transformers save a pipeline."""
    components.unet.save_pretrained(folder / "unet", variant=variant, max_shard_size=shard)
    components.vae.save_pretrained(folder / "vae", variant=variant, max_shard_size=shard)
    for name, encoder in zip(("text_encoder", "text_encoder_2"), components.text_encoders, strict=True):
        encoder.save_pretrained(folder / name, variant=variant, max_shard_size=shard)
    index = {"_class_name": "StableDiffusionXLPipeline", "text_encoder": ["transformers", "CLIPTextModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def schedule(folder: Path, **settings: object) -> None:
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings))


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


REFUSED = {
    "unknown": "no model that is known here",
    "text": "cannot be read as safetensors",
    "pickle": "is a pickle",
    "truncated": "is cut short",
    "lora": "is a LoRA and no base model",
    "refiner": "is SDXL's refiner and no base model",
    "vae": "is a VAE alone",
    "sd15": "is Stable Diffusion 1.5, and not SDXL",
    "sd2": "is Stable Diffusion 2, and not SDXL",
    "edm": "trained with EDM",
    "no vae": "--vae FILE gives it one",
    "unet": "--base FAMILY gives it those",
    "incomplete": "lacks model.diffusion_model.out.2.bias",
}


def refused(kind: str, pocket: Tensors, family: Path, path: Path) -> Path:
    sd = without(pocket, f"{UNET}label_emb", "conditioner.")
    match kind:
        case "unknown":
            return saved({"double_blocks.0.img_attn.qkv.weight": torch.zeros(3)}, path)
        case "text":
            path.write_text("<html>404 of a model hub, which people save as a model</html>")
        case "pickle":
            path.write_bytes(pickle.dumps({"state_dict": {}}))
        case "truncated":
            path.write_bytes((family / names.CHECKPOINT).read_bytes()[:-1])
        case "lora":
            return family / "loras" / names.OUTLINES
        case "refiner":
            return family / names.REFINER
        case "vae":
            return saved(only(pocket, VAE), path)
        case "sd15":
            return saved(sd | only(pocket, "conditioner.embedders.0.", "cond_stage_model."), path)
        case "sd2":
            return saved(sd | only(pocket, "conditioner.embedders.1.", "cond_stage_model."), path)
        case "edm":
            return saved(pocket | {"edm_mean": torch.zeros(4), "edm_std": torch.ones(4)}, path)
        case "no vae":
            return saved(without(pocket, VAE), path)
        case "unet":
            return saved(only(pocket, UNET, UNET), path)
        case _:
            return saved(without(pocket, f"{UNET}out.2.bias"), path)
    return path


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_sdxl_checkpoint_is_refused_in_a_sentence(
    run: Callable[..., str],
    pocket: Tensors,
    pocket_family_folder: Path,
    tmp_path: Path,
    families: Path,
    kind: str,
) -> None:
    source = refused(kind, pocket, pocket_family_folder, tmp_path / "given.safetensors")
    with pytest.raises(ToolFault, match=REFUSED[kind]) as fault:
        run(source)
    assert "\n" not in str(fault.value)
    assert not families.exists() or not any(families.iterdir())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "model_index.json").unlink(), "no model_index.json"),
        (
            lambda folder: index(folder, _class_name="StableDiffusionPipeline"),
            "StableDiffusionPipeline, which is not SDXL",
        ),
        (lambda folder: index(folder, text_encoder=[None, None]), "refiner"),
        (lambda folder: schedule(folder, _class_name="EDMEulerScheduler"), "EDM"),
        (lambda folder: schedule(folder, prediction_type="sample"), "predicts sample"),
        (lambda folder: shutil.rmtree(folder / "text_encoder_2"), "no file of weights"),
        (lambda folder: next(folder.glob("unet/*-00001-*")).unlink(), "cannot be read"),
        (lambda folder: pickled(folder / "vae"), "pickles"),
        (lambda folder: scaled(folder / "vae" / "config.json"), "another scaling_factor"),
    ],
)
def test_a_folder_that_is_not_as_it_should_be_is_refused(
    run: Callable[..., str],
    components: Components,
    tmp_path: Path,
    families: Path,
    change: Callable[[Path], object],
    told: str,
) -> None:
    folder = diffusers_folder(components, tmp_path / "mine", shard="1MB")
    change(folder)
    with pytest.raises(ToolFault, match=told):
        run(folder)
    assert not families.exists() or not any(families.iterdir())


def index(folder: Path, **changed: object) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def pickled(folder: Path) -> None:
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    (folder / "diffusion_pytorch_model.bin").write_bytes(b"")


def scaled(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "scaling_factor": 0.18215}))


def test_another_size_than_sdxls_is_refused_by_its_shapes(
    run: Callable[..., str], pocket_family_folder: Path, families: Path
) -> None:
    with pytest.raises(ToolFault, match="the configuration says"):
        run(pocket_family_folder / names.CHECKPOINT, config=False)
    assert not any(families.iterdir())


def test_a_family_is_never_overwritten(run: Callable[..., str], pocket_family_folder: Path) -> None:
    run(pocket_family_folder / names.CHECKPOINT)
    with pytest.raises(ToolFault, match="already"):
        run(pocket_family_folder / names.CHECKPOINT)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow past a mebibyte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("way", ["written", "copied"])
def test_a_disk_that_is_full_leaves_nothing(
    run: Callable[..., str],
    pocket: Tensors,
    pocket_family_folder: Path,
    tmp_path: Path,
    families: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    way: str,
) -> None:
    def other_disk(*args: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    source, options = pocket_family_folder / names.CHECKPOINT, []
    if way == "written":
        options = ["--vae", saved(only(pocket, VAE), tmp_path / "vae.safetensors")]
    monkeypatch.setattr(os, "link", other_disk)
    request.getfixturevalue("full_disk")
    with pytest.raises(ToolFault, match=r"cannot be written: .*File too large"):
        run(source, *options)
    assert not any(families.iterdir())


@pytest.fixture
def family(run: Callable[..., str], pocket_family_folder: Path, families: Path) -> Path:
    run(pocket_family_folder / names.CHECKPOINT, "--name", "mine")
    return families / "mine"


def test_a_lora_is_brought_to_a_family(run: Callable[..., str], pocket_family_folder: Path, family: Path) -> None:
    source = pocket_family_folder / "loras" / names.OUTLINES
    assert "it fits the family mine" in run(source, "--family", "mine", config=False)
    catalogue = Catalogue.open(family)
    assert catalogue.lora("pocket_outlines") == (family / "loras" / names.OUTLINES).resolve()
    assert (
        fault_of(family / "loras" / names.OUTLINES, catalogue.file.files[f"loras/{names.OUTLINES}"], all_bytes=True)
        is None
    )
    with pytest.raises(ToolFault, match="already"):
        run(source, "--family", "mine", config=False)


def test_a_lora_of_another_model_is_refused(run: Callable[..., str], tmp_path: Path, family: Path) -> None:
    layer = "lora_unet_down_blocks_7_attentions_0_proj_in"
    other = {f"{layer}.lora_{side}.weight": torch.zeros(4, 4) for side in ("down", "up")}
    before = (family / "family.json").read_bytes()
    with pytest.raises(ToolFault, match="does not fit the model"):
        run(saved(other, tmp_path / "other.safetensors"), "--family", "mine", config=False)
    assert (family / "family.json").read_bytes() == before
    assert not (family / "loras").exists()


def test_a_checkpoint_is_not_brought_to_a_family(
    run: Callable[..., str], pocket_family_folder: Path, family: Path
) -> None:
    with pytest.raises(ToolFault, match="--family takes a LoRA or"):
        run(pocket_family_folder / names.CHECKPOINT, "--family", "mine", config=False)


def test_a_refiner_becomes_the_familys(run: Callable[..., str], pocket_family_folder: Path, family: Path) -> None:
    shutil.copytree(pocket_family_folder / "refiner_config", family / "refiner_config")
    path = family / "family.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "refiner_config": "refiner_config"}))
    assert "refiner" in run(pocket_family_folder / names.REFINER, "--family", "mine", config=False)
    assert Catalogue.open(family).part("refiner") == (family / "refiner" / names.REFINER).resolve()


def test_options_that_do_not_go_together_are_refused(run: Callable[..., str], pocket_family_folder: Path) -> None:
    with pytest.raises(ToolFault, match="no other option"):
        run(pocket_family_folder / "loras" / names.OUTLINES, "--family", "mine", "--name", "other", config=False)
    with pytest.raises(ToolFault, match="needs nothing of --base"):
        run(pocket_family_folder / names.CHECKPOINT, "--base", pocket_family_folder)


def test_the_tool_has_it(
    pocket_family_folder: Path, tmp_path: Path, families: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, config = pocket_family_folder / names.CHECKPOINT, pocket_family_folder / "config"
    assert main(["import", str(source), "--config", str(config), "--name", "mine"]) == 0
    assert Catalogue.open(families / "mine").name == "mine"
    assert main(["import", str(tmp_path / "nowhere"), "--name", "other"]) == 1
    assert capsys.readouterr().err == f"error: There is no {tmp_path / 'nowhere'}.\n"
