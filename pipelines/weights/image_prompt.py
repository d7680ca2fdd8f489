"""Image prompts as IP-Adapter publishes them: how a vision tower sees pictures, and what makes prompts of that
(fooocus-facts 5.2)."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from pipelines.errors import WeightsFault
from pipelines.memory.residency import RESIDENT, Residency
from pipelines.unet.rows import ImageAdapter
from pipelines.weights.checkpoint import Stored, fill
from pipelines.weights.header import Header, read_header
from pipelines.weights.resampler import HEAD, Resampler

EDGE = 224  # pixels of a side, as a vision tower sees pictures
MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's
DEVIATION = (0.26862954, 0.26130258, 0.27577711)

_LAYER = re.compile(r"image_proj\.layers\.(\d+)\.0\.to_q\.weight")
_MATRICES = (2, 3)  # dimensions of negative tokens: with one for the batch or without


class Adapter(nn.Module):
    """One kind of image prompts for a UNet: what makes tokens of features, and how its cross-attentions read them.

    keys, values: a projection for each cross-attention, in the order of `cross_attentions`.
    """

    def __init__(self, unet: UNet2DConditionModel, resampler: Resampler) -> None:
        super().__init__()
        self.resampler = resampler
        self.keys, self.values = nn.ModuleList(), nn.ModuleList()
        self._places: list[str] = []
        for place, attention in cross_attentions(unet):
            wide, narrow = attention.to_k.weight.shape
            self._places.append(place)
            for projections in (self.keys, self.values):
                projections.append(nn.Linear(narrow, wide, bias=False, device="meta"))

    @property
    def attention(self) -> ImageAdapter:
        """The projections by the names of the UNet's modules."""
        pairs: Any = ((key.weight, value.weight) for key, value in zip(self.keys, self.values, strict=True))
        return ImageAdapter(dict(zip(self._places, pairs, strict=True)), nn.ModuleList([self.keys, self.values]))


class ImagePrompter:
    """What makes prompts of one kind of pictures, for a UNet and all that were merged from it.

    tower: shared by all kinds. adapter, attention: of this kind. negative: (tokens, width), the tokens of no picture,
    for rows of negative prompts.
    """

    def __init__(self, tower: CLIPVisionModelWithProjection, adapter: Adapter, negative: Tensor) -> None:
        self.tower, self.adapter, self.negative = tower, adapter, negative
        self.attention = adapter.attention

    def tokens(self, pixels: Tensor, residency: Residency = RESIDENT) -> Tensor:
        """(n, tokens, width) of pictures (n, EDGE, EDGE, 3) from 0 to 255, on the device. residency: brings both models
        there."""
        resampler = self.adapter.resampler
        residency.bring(self.tower)
        features = tower_features(self.tower, normalised(pixels).to(resampler.latents.dtype))
        residency.bring(resampler)
        found: Tensor = resampler(features)
        return found


def cross_attentions(unet: UNet2DConditionModel) -> Iterator[tuple[str, Attention]]:
    """The cross-attentions of a UNet by the names of their modules: down, up, middle, as IP-Adapter counts them."""
    for part in ("down_blocks", "up_blocks", "mid_block"):
        for name, module in unet.get_submodule(part).named_modules():
            if isinstance(module, Attention) and module.is_cross_attention:
                yield f"{part}.{name}", module


def read_adapter(
    path: Path, unet: UNet2DConditionModel, features: int, device: torch.device, dtype: torch.dtype
) -> Adapter:
    """The adapter of a UNet in a safetensors file, in the names of the published one.

    features: how wide the tower's are. Raises WeightsFault when the file cannot be read, and unless each parameter
    finds its tensor, in its shape, and each tensor its parameter.
    """
    header = read_header(path)
    with torch.device("meta"):
        resampler = _resampler(header, features, unet.config["cross_attention_dim"])
    adapter = Adapter(unet, resampler)
    names = {name: _stored_name(name) for name, _ in adapter.named_parameters()}
    require(header, names.values(), "an IP-Adapter plus for this UNet")

    def convert(stored: dict[str, Stored]) -> Mapping[str, Stored]:
        return {name: stored[key] for name, key in names.items()}

    fill(path, header, "", adapter, convert, device, dtype)
    return adapter


def read_negative(path: Path, adapter: Adapter, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(tokens, width): what rows of negative prompts attend to. Raises WeightsFault when the file cannot be read, and
    unless its tokens are as many and as wide as an adapter's."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as fault:
        raise WeightsFault(f"The negative image tokens {path} cannot be read: {fault}") from fault
    wanted = (adapter.resampler.latents.shape[1], adapter.resampler.proj_out.out_features)
    data = tensors.pop("data", None)
    if data is None or tensors or data.ndim not in _MATRICES or data.numel() != wanted[0] * wanted[1]:
        raise WeightsFault(
            f"{path} does not hold one tensor `data` of {wanted[0]} image tokens, each {wanted[1]} wide."
        )
    return data.reshape(wanted).to(device, dtype)


def require(header: Header, keys: Iterable[str], what: str) -> None:
    """Refuse a file that lacks one of its tensors."""
    lost = [key for key in keys if key not in header.tensors]
    if lost:
        raise WeightsFault(f"{header.file} lacks {lost[0]}; is it {what}?")


def tower_input(pictures: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
    """(n, 3, EDGE, EDGE), as the tower sees (height, width, 3) pictures: stretched and normalised."""
    small = [np.asarray(Image.fromarray(each).resize((EDGE, EDGE), Image.Resampling.LANCZOS)) for each in pictures]
    return normalised(torch.from_numpy(np.stack(small)))


def normalised(pixels: Tensor) -> Tensor:
    """(n, 3, height, width) float32 of (n, height, width, 3) from 0 to 255, by CLIP's mean and deviation."""
    mean, deviation = (torch.tensor(each, device=pixels.device) for each in (MEAN, DEVIATION))
    return ((pixels.float() / 255 - mean) / deviation).permute(0, 3, 1, 2)


def tower_features(tower: Any, pixels: Tensor) -> Tensor:
    """(n, patches + 1, width): what the last but one layer says of `tower_input`, which the adapter is given."""
    found: Tensor = tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
    return found


def _resampler(header: Header, features: int, width: int) -> Resampler:
    """A resampler as deep and wide as the tensors of a file say."""
    latents, queries = "image_proj.latents", "image_proj.layers.0.0.to_q.weight"
    require(header, (latents, queries), "an IP-Adapter plus")
    depth = sum(_LAYER.fullmatch(key) is not None for key in header.tensors)
    _, tokens, inner = header.tensors[latents].shape
    return Resampler(features, inner, width, tokens, header.tensors[queries].shape[0] // HEAD, depth)


def _stored_name(name: str) -> str:
    """What the published file calls a parameter of an `Adapter`: it counts self-attentions too."""
    part, _, rest = name.partition(".")
    if part == "resampler":
        return f"image_proj.{rest}"
    return f"ip_adapter.{2 * int(rest.partition('.')[0]) + 1}.to_{part[0]}_ip.weight"
