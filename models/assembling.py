"""One checkpoint in the original single-file layout from what a user has: a file, a diffusers folder, or pieces."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from models.diffusers_layout import COMPONENTS, read_tensors, stored_component, stored_folder
from pipelines.catalogue import Catalogue
from pipelines.errors import WeightsFault
from pipelines.parts import Prediction
from pipelines.weights.checkpoint import UNET, VAE, load_checkpoint, read_config, read_json
from pipelines.weights.header import Header, read_header
from pipelines.weights.lora.matching import Targets
from pipelines.weights.lora.reading import read_lora
from pipelines.weights.recognition import SDXL_TEXT_ENCODERS, Recognised, recognise
from pipelines.weights.refiner import load_refiner

TEXT = "conditioner."
TEXT_ENCODERS = frozenset({"text_encoder", "text_encoder_2"})
INNER = UNET.removeprefix("model.")
MARKERS = ("v_pred", "ztsnr")  # tensors without meaning but their names: how a checkpoint was trained
PIPELINES = "StableDiffusionXL"  # how the class names of SDXL's pipelines begin


@dataclass(frozen=True)
class Pieces:
    """What completes a source. config: the folder of configurations, which all must fit. vae: a file, used instead of
    the source's own. base: the family that gives the text encoders, and the VAE where there is none else."""

    config: Path
    vae: Path | None = None
    base: Catalogue | None = None


@dataclass(frozen=True, eq=False)
class Assembled:
    """A checkpoint to be. told: what was found, a phrase. tensors: to be written; None where the file serves as it is.

    prediction, zero_terminal_snr: how it was trained, as far as its files say. metadata: of the written file.
    """

    told: str
    prediction: Prediction
    zero_terminal_snr: bool
    tensors: Mapping[str, Tensor] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """What is to be written."""
        return sum(tensor.nbytes for tensor in (self.tensors or {}).values())

    def write(self, path: Path) -> None:
        """Write the checkpoint that is not there yet, in the dtypes of its sources. Raises WeightsFault."""
        if self.tensors is None:
            raise ValueError("the source is the checkpoint")
        try:
            save_file(dict(self.tensors), path, dict(self.metadata) or None)
        except SafetensorError as fault:
            raise WeightsFault(f"{path.name} cannot be written: {fault}.") from fault


def assemble(source: Path, pieces: Pieces) -> Assembled:
    """Say what a file or folder is and make a checkpoint of it. Large tensors are mapped, not read.

    Raises WeightsFault, in one sentence, for what is no SDXL base model or lacks what no piece brings.
    """
    return _of_folder(source, pieces) if source.is_dir() else _of_file(source, pieces)


def check(checkpoint: Path, config: Path) -> None:
    """Hold a checkpoint against the configurations by names and shapes, as a load does. Raises WeightsFault."""
    load_checkpoint(checkpoint, config, torch.device("meta"), torch.float16)


def check_refiner(checkpoint: Path, config: Path | None) -> None:
    """Likewise of a refiner, SDXL's or Stable Diffusion 1.5. config: None for the published one's."""
    load_refiner(checkpoint, config, torch.device("meta"), torch.float16)


def check_lora(file: Path, family: Catalogue) -> None:
    """Hold a LoRA against a family's models. Raises InputFault when it does not fit, WeightsFault when they do not."""
    models = load_checkpoint(family.checkpoint, family.config, torch.device("meta"), torch.float16)
    Targets(models.unet, models.text_encoders).match(read_lora(file))


def read_model(path: Path) -> tuple[Header, dict[str, Tensor]]:
    """A user's file. Raises WeightsFault for a pickle, a damaged file and what is no safetensors."""
    return read_header(path), read_tensors(path)


def _of_file(source: Path, pieces: Pieces) -> Assembled:
    header, tensors = read_model(source)
    found = recognise(header)
    if found.kind == "unknown weights" and any(key.startswith(INNER) for key in tensors):  # saved from within a model
        header = replace(header, tensors={f"model.{key}": each for key, each in header.tensors.items()})
        tensors = {f"model.{key}": tensor for key, tensor in tensors.items()}
        found = recognise(header)
    _refuse_others(source.name, found)
    prediction = found.prediction or "epsilon"
    if found.layout == "diffusers":
        tensors = _of_pipeline(tensors, pieces, source)
    whole_already = found.layout == "original" and pieces.vae is None
    unet, text, vae = (_under(tensors, prefix) for prefix in (UNET, TEXT, VAE))
    if found.text_encoders < SDXL_TEXT_ENCODERS:
        text = {}  # one alone is of no use: both were trained together
    if unet and text and vae and pieces.base is not None:
        raise WeightsFault(f"{source.name} is whole: it needs nothing of --base.")
    if unet and text and vae and whole_already:
        return Assembled(str(found), prediction, found.zero_terminal_snr)
    markers = {key: tensor for key, tensor in tensors.items() if key in MARKERS}
    unet = unet or _bare_unet(tensors)
    given = {} if pieces.base is None else read_tensors(pieces.base.checkpoint)
    text = text or _under(given, TEXT)
    if not text:
        lost = ("no text encoders", "only one of SDXL's two text encoders")[min(found.text_encoders, 1)]
        raise WeightsFault(f"{source.name} has {lost}: --base FAMILY gives it those of another family.")
    vae = _vae_of(pieces.vae, pieces.config) if pieces.vae is not None else vae or _under(given, VAE)
    if not vae:
        raise WeightsFault(f"{source.name} has no VAE: --vae FILE gives it one.")
    whole = markers | unet | text | vae
    return Assembled(str(found), prediction, found.zero_terminal_snr, whole, header.metadata)


def _of_folder(source: Path, pieces: Pieces) -> Assembled:
    if not (source / "model_index.json").is_file():
        raise WeightsFault(f"{source} is no diffusers folder: it has no model_index.json.")
    if pieces.base is not None:
        raise WeightsFault(f"{source.name} is a diffusers folder, which needs nothing of --base.")
    index = read_json(source / "model_index.json")
    pipeline = str(index.get("_class_name"))
    if not pipeline.startswith(PIPELINES):
        raise WeightsFault(f"{source.name} is a folder of {pipeline}, which is not SDXL.")
    if index.get("text_encoder") in (None, [None, None]):
        raise WeightsFault(f"{source.name} is SDXL's refiner, which draws no picture alone.")
    scheduler = source / "scheduler" / "scheduler_config.json"
    trained = read_json(scheduler) if scheduler.is_file() else {}
    if str(trained.get("_class_name")).startswith("EDM"):
        raise WeightsFault(f"{source.name} was trained with EDM: its noise levels are none of SDXL's.")
    prediction = trained.get("prediction_type", "epsilon")
    if prediction not in get_args(Prediction):
        raise WeightsFault(f"{source.name} predicts {prediction}, which is not supported.")
    if pieces.vae is not None:
        components = tuple(each for each in COMPONENTS if each != "vae")
        tensors = stored_folder(source, pieces.config, components) | _vae_of(pieces.vae, pieces.config)
    else:
        _same_scale(source, pieces.config)
        tensors = stored_folder(source, pieces.config)
    zero_snr = trained.get("rescale_betas_zero_snr") is True
    return Assembled("a diffusers folder of SDXL", prediction, zero_snr, tensors)


def _refuse_others(name: str, found: Recognised) -> None:
    found.require_weights(name)
    match found.kind:
        case "SDXL base":
            if found.edm:
                raise WeightsFault(
                    f"{name} was trained with EDM like {found.edm}: its noise levels are none of SDXL's."
                )
        case "LoRA":
            raise WeightsFault(f"{name} is a LoRA and no base model: --family NAME brings it to a family.")
        case "SDXL refiner":
            raise WeightsFault(f"{name} is SDXL's refiner and no base model: --family NAME brings it to a family.")
        case "Stable Diffusion 1.5":
            raise WeightsFault(
                f"{name} is Stable Diffusion 1.5, and not SDXL: --family NAME brings it to a family as its refiner."
            )
        case "VAE":
            raise WeightsFault(f"{name} is a VAE alone: --vae gives it to a base model that is imported.")
        case "unknown weights":
            raise WeightsFault(f"{name} is no model that is known here: it has no UNet of SDXL.")
        case "Stable Diffusion 2" | "Stable Diffusion 3" | "Stable Video Diffusion" | "Flux":
            raise WeightsFault(f"{name} is {found.kind}, and not SDXL.")
        case _:
            raise WeightsFault(f"{name} is {found.article}, and no base model.")


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _bare_unet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A UNet that was saved alone, by the original names without their prefix."""
    return {UNET + key: tensor for key, tensor in tensors.items() if key not in MARKERS}


def _of_pipeline(tensors: Mapping[str, Tensor], pieces: Pieces, source: Path) -> dict[str, Tensor]:
    """One file by diffusers' names: a UNet alone, or the models of a pipeline with the name of each before theirs."""
    found: dict[str, dict[str, Tensor]] = {}
    stored = {key: tensor for key, tensor in tensors.items() if key in MARKERS}
    for key, tensor in tensors.items():
        prefix, _, name = key.partition(".")
        if prefix in COMPONENTS:
            found.setdefault(prefix, {})[name] = tensor
        elif key not in MARKERS:
            found.setdefault("unet", {})[key] = tensor
    if pieces.vae is not None:
        found.pop("vae", None)
    if len(found.keys() & TEXT_ENCODERS) < SDXL_TEXT_ENCODERS:
        found = {component: each for component, each in found.items() if component not in TEXT_ENCODERS}
    for component, each in found.items():
        stored |= stored_component(component, each, pieces.config, source)
    return stored


def _vae_of(path: Path, config: Path) -> dict[str, Tensor]:
    """A VAE that was saved alone, by the original names, with their prefix or without, or by diffusers' names."""
    header, tensors = read_model(path)
    found = recognise(header)
    if found.kind != "VAE":
        raise WeightsFault(f"{path.name} is {found.article}, and --vae takes a VAE alone.")
    bare = {key.removeprefix(VAE): tensor for key, tensor in tensors.items()}
    if any(".down_blocks." in key for key in bare):
        return stored_component("vae", bare, config, path)
    return {
        VAE + key: tensor
        for key, tensor in bare.items()
        if key.startswith(("encoder.", "decoder.", "quant_", "post_quant_"))
    }


def _same_scale(source: Path, config: Path) -> None:
    """No shape tells how a VAE scales its latents."""
    ours, theirs = (read_config(folder / "vae") for folder in (config, source))
    for key in ("scaling_factor", "latents_mean", "latents_std"):
        if key in theirs and theirs[key] != ours.get(key) and theirs[key] is not None:
            raise WeightsFault(f"The VAE in {source.name} has another {key} than the configuration.")
