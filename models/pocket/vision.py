"""The vision tower and the image-prompt adapter of the pocket family, in the layouts that the published files have."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from models.pocket import shapes

EDGE = 224
TOKENS = 16  # that a picture becomes
MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's, as for the published tower
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
VISION: Mapping[str, Any] = MappingProxyType(
    {
        "image_size": EDGE,
        "patch_size": 28,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "projection_dim": 64,
    }
)
PLACED = 0.5  # how large the codes of places are at first
PREPROCESSING: Mapping[str, Any] = MappingProxyType(
    {
        "crop_size": {"height": EDGE, "width": EDGE},
        "do_center_crop": False,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_resize": True,
        "image_mean": MEAN,
        "image_processor_type": "CLIPImageProcessor",
        "image_std": DEVIATION,
        "resample": 1,  # Lanczos
        "size": {"height": EDGE, "width": EDGE},
    }
)
RESAMPLER: Mapping[str, int] = MappingProxyType(  # its depth of 4 and heads of 64 are those of the published one
    {"embed_dims": 64, "hidden_dims": 64, "depth": 4, "dim_head": 64, "heads": 1, "num_queries": TOKENS}
)
_PUBLISHED = (
    (".ln0.", ".0.norm1."),
    (".ln1.", ".0.norm2."),
    (".attn.to_q.", ".0.to_q."),
    (".attn.to_out.0.", ".0.to_out."),
    (".ff.0.", ".1.0."),
    (".ff.1.net.0.proj.", ".1.1."),
    (".ff.1.net.2.", ".1.3."),
)


def make_tower() -> CLIPVisionModelWithProjection:
    """An untrained tower. It knows one place from another: from the small random codes that transformers begins with,
    places are learned last."""
    tower = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION))
    positions = tower.get_parameter("vision_model.embeddings.position_embedding.weight")
    patches = VISION["image_size"] // VISION["patch_size"]
    with torch.no_grad():
        positions[1:] = PLACED * _waves(patches, VISION["hidden_size"])
    return tower


def _waves(patches: int, width: int) -> Tensor:
    """(patches * patches, width): sines and cosines of both places, from half a wave across the picture to four."""
    at = (torch.arange(patches) + 0.5) / patches
    angles = torch.pi * at[:, None] * torch.logspace(0, 3, width // 4, base=2)
    along = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = along[:, None].expand(-1, patches, -1), along[None].expand(patches, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


class ImagePrompt(nn.Module):
    """What a picture's features become for the UNet, untrained: its tokens are read as those of texts are.

    resampler: from features (n, patches + 1, 64) to tokens. attention: a key and a value projection for each
    cross-attention of the UNet, by the name of its processor. negative: the tokens of no picture.
    """

    def __init__(self, unet: Any) -> None:
        super().__init__()
        width: int = shapes.UNET["cross_attention_dim"]
        self.resampler = IPAdapterPlusImageProjection(output_dims=width, **RESAMPLER)
        self.negative = nn.Parameter(torch.zeros(TOKENS, width))
        self.attention = nn.ModuleDict()
        processors: Any = IPAdapterAttnProcessor2_0
        for name in unet.attn_processors:
            if name.endswith("attn2.processor"):
                attention = unet.get_submodule(name.removesuffix(".processor"))
                processor = processors(attention.to_q.out_features, width, num_tokens=(TOKENS,))
                processor.to_k_ip[0].load_state_dict(attention.to_k.state_dict())
                processor.to_v_ip[0].load_state_dict(attention.to_v.state_dict())
                self.attention[_key(name)] = processor

    def attach(self, unet: Any) -> None:
        """Let the UNet attend to the picture's tokens. It is then given pairs: of the text's tokens, and of a list."""
        plain: Any = AttnProcessor2_0
        unet.set_attn_processor(
            {
                name: self.attention[_key(name)] if name.endswith("attn2.processor") else plain()
                for name in unet.attn_processors
            }
        )

    def stored(self) -> dict[str, Tensor]:
        """As the published file has it: its parts, `image_proj` and `ip_adapter`, are the first words of the names."""
        found: dict[str, Tensor] = {}
        halves: dict[str, Tensor] = {}
        for name, tensor in self.resampler.state_dict().items():
            if ".attn.to_k." in name or ".attn.to_v." in name:
                halves[name] = tensor
                continue
            for ours, theirs in _PUBLISHED:
                name = name.replace(ours, theirs)
            found[f"image_proj.{name}"] = tensor
        for name, keys in halves.items():
            if ".to_k." in name:
                both = torch.cat([keys, halves[name.replace(".to_k.", ".to_v.")]])
                found[f"image_proj.{name.replace('.attn.to_k.', '.0.to_kv.')}"] = both
        for at, processor in enumerate(self.attention.values()):
            for role in ("to_k_ip", "to_v_ip"):
                projections: Any = getattr(processor, role)
                found[f"ip_adapter.{2 * at + 1}.{role}.weight"] = projections[0].weight.detach()
        return found


def weigh(unet: Any, weight: float) -> None:
    """How much a picture counts for a UNet with an adapter: 0 is not at all."""
    for processor in unet.attn_processors.values():
        if isinstance(processor, IPAdapterAttnProcessor2_0):
            processor.scale = [weight]


def _key(name: str) -> str:
    return name.replace(".", "_")
