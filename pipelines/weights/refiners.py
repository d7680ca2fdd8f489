"""The refiner of a family as pictures are drawn with it, loaded when a request first needs it."""

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from torch.nn.functional import layer_norm

from pipelines.conditioning import Conditioning
from pipelines.denoising.schedules import NoiseTable, sdxl_table
from pipelines.errors import WeightsFault
from pipelines.parts import lacks
from pipelines.unet.layers import install_layers
from pipelines.weights.interposer import Interposer, read_interposer
from pipelines.weights.refiner import Sd15Refiner, load_refiner, own_vae_dtype
from pipelines.weights.sized_lru import SizedLru

if TYPE_CHECKING:
    from pipelines.weights.family import Family

KEY = "refiner"  # in the cache, and the name of the part


@dataclass(frozen=True, eq=False)
class OwnLatents:
    """What a Stable Diffusion 1.5 refiner has because its latents are not SDXL's.

    norm: weight and bias (width,) float32 of the last norm of the family's first text encoder, which SDXL skips.
    """

    vae: AutoencoderKL
    interposer: Interposer
    norm: tuple[Tensor, Tensor]
    epsilon: float


@dataclass(frozen=True, eq=False)
class Refiner:
    """What draws the last steps of pictures. group: names its weights. own: None for SDXL's, which draws the base's
    latents. table: the levels that it knows. LoRAs never change it: one of SDXL's base fits neither kind."""

    unet: UNet2DConditionModel
    group: Hashable
    own: OwnLatents | None = None
    table: NoiseTable = field(default_factory=sdxl_table)

    def reads(self, text: Conditioning) -> Conditioning:
        """What it is told by the prompt of the base: what the text encoder that both know made of it
        (fooocus-facts 4.6)."""
        width: int = self.unet.config["cross_attention_dim"]
        if self.own is None:
            return Conditioning(text.context[:, -width:], text.pooled)
        first = layer_norm(text.context[:, :width], (width,), *self.own.norm, self.own.epsilon)
        return Conditioning(first, text.pooled.new_zeros(0))


class Refiners:
    """Keeps the family's refiner in the cache that it is given. Methods may be called from any thread."""

    def __init__(self, family: "Family", kept: SizedLru[Any, Any]) -> None:
        self._family, self._kept = family, kept
        self._loading = threading.Lock()

    def find(self) -> Refiner | None:
        """The refiner if it is at hand, or still drawn with; never reads or waits."""
        found: Refiner | None = self._kept.recall(KEY)
        return found

    def get(self, field: str) -> Refiner:
        """The refiner, which is loaded if it is not at hand; that may take seconds.

        Raises InputFault `feature_not_supported` with `field` where one of Stable Diffusion 1.5 has no interposer
        beside it, and WeightsFault where the family has no refiner or its files do not fit.
        """
        with self._loading:
            return self.find() or self._load(field)

    def _load(self, field: str) -> Refiner:
        family = self._family
        catalogue, home = family.catalogue, family.home
        path = catalogue.part("refiner")
        loaded = load_refiner(
            path,
            catalogue.refiner_config,
            home,
            family.dtype,
            vae_dtype=own_vae_dtype(family.device, family.dtype),
            text_device=torch.device("meta"),  # the family has the same one
        )
        encoder = family.text_encoders[0 if isinstance(loaded, Sd15Refiner) else 1]
        reads, told = loaded.unet.config["cross_attention_dim"], encoder.config.hidden_size
        if reads != told:
            raise WeightsFault(f"{path.name} reads texts of width {reads}, and the family's encoder has {told}.")
        install_layers(loaded.unet, family.rows)
        own = self._own(loaded, field, home) if isinstance(loaded, Sd15Refiner) else None
        refiner = Refiner(loaded.unet, (KEY, path.name), own)
        models = (loaded.unet, *((own.vae, own.interposer) if own else ()))
        self._kept.put(KEY, refiner, {id(each): each.nbytes for model in models for each in model.parameters()})
        return refiner

    def _own(self, loaded: Sd15Refiner, field: str, home: torch.device) -> OwnLatents:
        family = self._family
        if not family.catalogue.has("interposer"):
            raise lacks("interposer", field, family.catalogue)
        norm: Any = family.text_encoders[0].get_submodule("final_layer_norm")  # a torch.nn.LayerNorm
        weight, bias = (
            family.residency.home(each).to(family.device, torch.float32) for each in (norm.weight, norm.bias)
        )
        interposer = read_interposer(family.catalogue.part("interposer"), home)
        return OwnLatents(loaded.vae, interposer, (weight, bias), norm.eps)
