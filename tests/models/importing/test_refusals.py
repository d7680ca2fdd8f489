"""What cannot be imported is refused in one sentence, and nothing is left behind."""

import errno
import json
import os
import pickle
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from models.errors import ToolFault
from models.pocket import names
from pipelines.weights.checkpoint import UNET, VAE, Components
from tests.models.importing.layouts import Tensors, diffusers_folder, only, saved, schedule, without

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
            return saved({"backbone.0.weight": torch.zeros(3)}, path)
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


@pytest.mark.parametrize("way", ["written", "copied", "to a family"])
def test_a_disk_without_room_is_found_before_anything_is_written(
    run: Callable[..., str],
    pocket: Tensors,
    pocket_family_folder: Path,
    tmp_path: Path,
    families: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    def other_disk(*args: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    source, options, config, before = pocket_family_folder / names.CHECKPOINT, [], True, []
    if way == "written":
        options = ["--vae", saved(only(pocket, VAE), tmp_path / "vae.safetensors")]
    if way == "to a family":
        run(source, "--name", "mine")
        source, options, config = pocket_family_folder / "loras" / names.OUTLINES, ["--family", "mine"], False
        before = sorted(families.rglob("*"))
    size = source.stat().st_size - 10**6  # a little less than is needed
    monkeypatch.setattr(os, "link", other_disk)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=size))
    with pytest.raises(ToolFault, match=r"The disk of .* GB free, and .* GB are needed: nothing is imported\.$"):
        run(source, *options, config=config)
    assert sorted(families.rglob("*")) == before


def test_a_link_needs_no_room(
    run: Callable[..., str], pocket_family_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked: list[object] = []
    monkeypatch.setattr(os, "link", lambda source, target: linked.append(shutil.copy(source, target)))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    run(pocket_family_folder / names.CHECKPOINT)
    assert linked
