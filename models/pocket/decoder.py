"""The learned part of the VAE's decoder: what makes the outlines of its smooth enlargement sharp.

The decoder's ResNet blocks, which are constructed to do nothing, come to correct the four values that the decoder
carries. A block reads features and their negatives beside two anchors in each norm group, as `vae_weights` carries
values. So norms only scale here too, and a tile of a picture is decoded as the whole picture is.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from models.pocket.vae_weights import ANCHOR

VALUES = 4  # that the decoder carries, in as many norm groups
HELD = 64.0  # of the anchors beside features, which may be large


class DecoderEdges(nn.Module):
    """What all blocks read and write: begins as no change at all.

    decoder: of a VAE that `construct_vae` made, which stays as it is.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self._decoder = [decoder]  # in a list, so that its weights are not this module's
        self._blocks: dict[str, Any] = {
            name: block for name, block in decoder.named_modules() if type(block).__name__ == "ResnetBlock2D"
        }
        self.read, self.bias, self.write, self.level = (nn.ParameterDict() for _ in range(4))
        for name, block in self._blocks.items():
            features = block.conv1.out_channels // 2 - VALUES
            key = name.replace(".", "_")
            self.read[key] = nn.Parameter(torch.randn(features, 2 * VALUES, 3, 3) / (2 * VALUES * 9) ** 0.5)
            self.bias[key] = nn.Parameter(torch.zeros(features))
            self.write[key] = nn.Parameter(torch.zeros(VALUES, 2 * features, 3, 3))
            self.level[key] = nn.Parameter(torch.zeros(VALUES))

    def forward(self, latents: Tensor) -> Tensor:
        """Pictures (n, 3, 8 h, 8 w), of -1 to 1, of unscaled latents (n, 4, h, w)."""
        drawn: Tensor = functional_call(self._decoder[0], self.weights(), (latents,))
        return drawn

    def weights(self) -> dict[str, Tensor]:
        """What changes of the decoder's weights, by name."""
        found: dict[str, Tensor] = {}
        with next(self.parameters()).device:  # on which all is made that is not learned
            for name, block in self._blocks.items():
                learned = (each[name.replace(".", "_")] for each in (self.read, self.bias, self.write, self.level))
                found |= {f"{name}.{changed}": weight for changed, weight in _block_weights(block, *learned).items()}
        return found


@torch.no_grad()
def sharpen(decoder: nn.Module, learned: Mapping[str, Tensor]) -> None:
    """Put what was learned into a constructed decoder. Raises RuntimeError where it is of another decoder's shapes."""
    edges = DecoderEdges(decoder)
    edges.load_state_dict(learned)
    decoder.load_state_dict({**decoder.state_dict(), **edges.weights()})


def _block_weights(block: Any, read: Tensor, bias: Tensor, write: Tensor, level: Tensor) -> dict[str, Tensor]:
    """read: (features, values and their negatives, 3, 3). write: (values, features and their negatives, 3, 3)."""
    inputs, hidden, outputs = block.conv1.in_channels, block.conv1.out_channels, block.conv2.out_channels
    group = hidden // VALUES
    carried_in = [inputs // VALUES * value + place for value in range(VALUES) for place in (0, 1)]
    plus = [group * at + 2 * pair for at in range(VALUES) for pair in range(group // 2 - 1)]
    minus = [channel + 1 for channel in plus]
    conv1, bias1 = read.new_zeros(hidden, inputs, 3, 3), bias.new_zeros(hidden)
    spread = read.new_zeros(len(plus), inputs, 3, 3).index_copy(1, torch.tensor(carried_in), read)
    conv1 = conv1.index_copy(0, torch.tensor(plus), spread).index_copy(0, torch.tensor(minus), -spread)
    anchors = torch.tensor([group * (at + 1) - 2 for at in range(VALUES)])
    bias1 = bias1.index_copy(0, torch.tensor(plus), bias).index_copy(0, torch.tensor(minus), -bias)
    bias1 = bias1.index_fill(0, anchors, HELD).index_fill(0, anchors + 1, -HELD)
    conv2, bias2 = write.new_zeros(outputs, hidden, 3, 3), level.new_zeros(outputs)
    written = write.new_zeros(VALUES, hidden, 3, 3).index_copy(1, torch.tensor(plus + minus), write)
    values = torch.tensor([outputs // VALUES * value for value in range(VALUES)])
    conv2 = conv2.index_copy(0, values, written).index_copy(0, values + 1, -written)
    bias2 = bias2.index_copy(0, values, level).index_copy(0, values + 1, -level)
    return {
        "norm1.weight": torch.full((inputs,), ANCHOR * (2 * VALUES / inputs) ** 0.5),
        "norm1.bias": torch.zeros(inputs),
        "conv1.weight": conv1,
        "conv1.bias": bias1,
        "norm2.weight": torch.full((hidden,), HELD * (2 / group) ** 0.5),
        "norm2.bias": torch.zeros(hidden),
        "conv2.weight": conv2,
        "conv2.bias": bias2,
    }
