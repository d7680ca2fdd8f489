"""An image-prompt adapter in training, and the form that its published file has."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from torch import Tensor, nn

from models.pocket import shapes

TOKENS = 16  # that a picture becomes
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


def _key(name: str) -> str:
    return name.replace(".", "_")
