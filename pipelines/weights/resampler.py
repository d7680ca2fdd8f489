"""The resampler of IP-Adapter plus: from a vision tower's features to tokens (Ye et al. 2023, after Flamingo)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

HEAD = 64  # width of a head
WIDENED = 4  # of the feed-forward layers


class Resampler(nn.Module):
    """Learned queries that attend to features. Its parameters have the names of the published file.

    features, inner, width: of the features, between, and of the tokens. queries: as many tokens. depth: of its layers.
    """

    def __init__(self, features: int, inner: int, width: int, queries: int, heads: int, depth: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(1, queries, inner))
        self.proj_in, self.proj_out = nn.Linear(features, inner), nn.Linear(inner, width)
        self.norm_out = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.ModuleList([_Attention(inner, heads), _feed_forward(inner)]) for _ in range(depth)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(n, queries, width) of (n, patches, features)."""
        seen = self.proj_in(features)
        x = self.latents.expand(len(features), -1, -1)
        for layer in self.layers:
            attention, feed_forward = layer.children()
            x = x + attention(seen, x)
            x = x + feed_forward(x)
        tokens: Tensor = self.norm_out(self.proj_out(x))
        return tokens


class _Attention(nn.Module):
    """Queries attend to features and to one another."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, HEAD * heads, bias=False)
        self.to_kv = nn.Linear(width, 2 * HEAD * heads, bias=False)
        self.to_out = nn.Linear(HEAD * heads, width, bias=False)

    def forward(self, features: Tensor, x: Tensor) -> Tensor:
        x = self.norm2(x)
        keys, values = self.to_kv(torch.cat([self.norm1(features), x], dim=1)).chunk(2, dim=-1)
        queries, keys, values = (self._split(each) for each in (self.to_q(x), keys, values))
        attended = scaled_dot_product_attention(queries, keys, values)
        answer: Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return answer

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self._heads, HEAD).transpose(1, 2)


def _feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, WIDENED * width, bias=False),
        nn.GELU(),
        nn.Linear(WIDENED * width, width, bias=False),
    )
