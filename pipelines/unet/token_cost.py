"""What a UNet call costs by its tokens, and when prompts of unlike length are worth padding together."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn

WORTH = 1.05  # a call may cost this much more than the calls that its padding saves
# what would be computed in the time that a call takes by itself: on a GPU 2,000 launches take some 10 ms
CALL_FLOPS: Mapping[str, float] = MappingProxyType({"cpu": 0.3e9, "cuda": 4e12})


class TokenCost:
    """The arithmetic of a UNet's rows in FLOPs, by pixels of the latent and tokens of the context."""

    def __init__(self, unet: UNet2DConditionModel, device: torch.device) -> None:
        """device: where it runs."""
        self._call = CALL_FLOPS.get(device.type, CALL_FLOPS["cuda"])
        self._pixel = self._pixel_pair = self._token = self._token_pixel = 0.0
        levels = len(unet.config["block_out_channels"])
        for name, module in unet.named_modules():
            share = 0.25 ** _level(name, levels)  # places of this level for each pixel of the latent
            if isinstance(module, Attention):
                width = module.to_q.out_features
                if module.is_cross_attention:
                    self._token_pixel += 4 * width * share
                else:
                    self._pixel_pair += 4 * width * share**2
            elif name.endswith(("attn2.to_k", "attn2.to_v")):
                self._token += 2 * module.weight.numel()
            elif isinstance(module, nn.Conv2d) or (isinstance(module, nn.Linear) and ".attentions." in name):
                self._pixel += 2 * module.weight.numel() * share

    def row(self, pixels: int, tokens: int) -> float:
        """Of one row."""
        own = self._pixel * pixels + self._pixel_pair * pixels**2
        return own + tokens * (self._token + self._token_pixel * pixels)

    def worth_sharing(self, pixels: int, tokens: Sequence[int]) -> bool:
        """Whether rows of these lengths should be padded to the longest for one call, and not have a call a length."""
        together = self._call + len(tokens) * self.row(pixels, max(tokens))
        apart = self._call * len(set(tokens)) + sum(self.row(pixels, each) for each in tokens)
        return together <= WORTH * apart


def _level(name: str, levels: int) -> int:
    """How often the picture has been halved where a module answers."""
    match name.split("."):
        case ["down_blocks", at, *rest]:
            return int(at) + ("downsamplers" in rest)
        case ["up_blocks", at, *rest]:
            return levels - 1 - int(at) - ("upsamplers" in rest)
        case ["mid_block", *_]:
            return levels - 1
    return 0
