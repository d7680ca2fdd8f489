"""Reading what lies in diffusers' layout: its tensors, by the names of the original single-file layout.

A folder's files are mapped, not read, and go through models without memory: so a whole checkpoint is converted with the
memory of its second text encoder alone, whose attentions the original layout fuses.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from models.pocket.layout import stored_first_text, stored_second_text, stored_unet, stored_vae
from pipelines.errors import WeightsFault
from pipelines.weights.checkpoint import OLD_ATTENTION, read_config, read_json

STEMS = ("diffusion_pytorch_model", "model")
VARIANTS = (".fp16", "")  # the half-precision files first: they are what SDXL is drawn with, and half as large
PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth")
INNER = "text_model."  # transformers dropped this prefix in its fifth version; files have it
COMPONENTS = ("unet", "vae", "text_encoder", "text_encoder_2")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, mapped from disk. Raises WeightsFault for what is no such file."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a mapping)
    except (OSError, SafetensorError) as fault:
        raise WeightsFault(f"{path} cannot be read as safetensors: {fault}") from fault


def stored_folder(folder: Path, config: Path, components: tuple[str, ...] = COMPONENTS) -> dict[str, Tensor]:
    """The checkpoint that a diffusers folder holds.

    config: the folder of configurations, which say how deep and wide the models are. Raises WeightsFault when a
    component is missing or does not fit.
    """
    stored: dict[str, Tensor] = {}
    for component in components:
        stored |= stored_component(component, _component_tensors(folder / component), config, folder / component)
    return stored


def stored_component(component: str, tensors: Mapping[str, Tensor], config: Path, source: Path) -> dict[str, Tensor]:
    """The tensors of one model, named as diffusers or transformers names them -> as a checkpoint has them.

    source: where they come from, for the messages.
    """
    settings = read_config(config / component)
    stored: dict[str, Tensor]
    with torch.device("meta"):
        match component:
            case "unet":
                unet: UNet2DConditionModel = UNet2DConditionModel.from_config(settings)
                made: tuple[nn.Module, Callable[[], dict[str, Tensor]]] = unet, lambda: stored_unet(unet)
            case "vae":
                vae: AutoencoderKL = AutoencoderKL.from_config(settings)
                made = vae, lambda: stored_vae(vae)
            case "text_encoder":
                first = CLIPTextModel(CLIPTextConfig(**settings))
                made = first, lambda: stored_first_text(first)
            case _:
                second = CLIPTextModelWithProjection(CLIPTextConfig(**settings))
                made = second, lambda: stored_second_text(second)
    module, store = made
    _fill(module, tensors, source)
    stored = store()
    return {key: tensor.contiguous() for key, tensor in stored.items()}


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    wanted = dict(module.named_parameters())
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if key.endswith("position_ids"):  # counted, not trained
            continue
        name = _ours(key, wanted)
        if name is None:
            raise WeightsFault(f"{source} has {key}, for which the configuration has no place.")
        if tensor.shape != wanted[name].shape:
            shapes = f"{tuple(tensor.shape)}, the configuration says {tuple(wanted[name].shape)}"
            raise WeightsFault(f"{key} in {source} has shape {shapes}.")
        found[name] = tensor
    lost = [name for name in wanted if name not in found]
    if lost:
        raise WeightsFault(f"{source} lacks {lost[0]}" + (f" and {len(lost) - 1} more." if lost[1:] else "."))
    module.requires_grad_(False).load_state_dict(found, assign=True)


def _ours(key: str, wanted: Mapping[str, object]) -> str | None:
    names = [key, key.removeprefix(INNER), INNER + key]
    if ".attentions." in key:
        names += [key.replace(f".{older}.", f".{newer}.") for older, newer in OLD_ATTENTION.items()]
    return next((name for name in names if name in wanted), None)


def _component_tensors(folder: Path) -> dict[str, Tensor]:
    """Of one file or of several that an index names, in half precision where there is such a variant."""
    for stem in STEMS:
        for variant in VARIANTS:
            whole = folder / f"{stem}{variant}.safetensors"
            if whole.is_file():
                return read_tensors(whole)
            index = folder / f"{stem}.safetensors.index{variant}.json"
            if index.is_file():
                return _sharded(index)
    if any(path for pattern in PICKLES for path in folder.glob(pattern)):
        raise WeightsFault(f"{folder} holds pickles, which run code when they are read; import safetensors files.")
    raise WeightsFault(f"{folder} has no file of weights.")


def _sharded(index: Path) -> dict[str, Tensor]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise WeightsFault(f"{index} is no index of shards.")
    shards: dict[str, dict[str, Tensor]] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise WeightsFault(f"{index} names a file outside its folder: {name}")
        shards[name] = read_tensors(index.parent / name)
    lost = [key for key, name in places.items() if key not in shards[name]]
    if lost:
        raise WeightsFault(f"{index.parent / places[lost[0]]} lacks {lost[0]}, which the index places there.")
    return {key: shards[name][key] for key, name in places.items()}
