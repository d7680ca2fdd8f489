"""Layers that read the row context. They are installed once in a UNet; its copies share them and the context."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.functional import conv2d, scaled_dot_product_attention

from pipelines.unet.rows import RowContext


class LoraLinear(nn.Linear):
    """A linear layer whose rows may have low-rank changes of their own. Input: (rows, ..., inputs)."""

    rows: RowContext
    place: str

    def forward(self, x: Tensor) -> Tensor:
        answer, change = super().forward(x), self.rows.features.change_of(self.place)
        if change is None:
            return answer
        taken = _taken(x, change.rows)
        inner = torch.bmm(taken.reshape(len(taken), -1, taken.shape[-1]), change.down.transpose(1, 2))
        return _changed(answer, inner * change.strengths[:, None], change.up.transpose(1, 2), change.rows)


class LoraConv(nn.Conv2d):
    """A convolution whose rows may have low-rank changes of their own. Input: (rows, channels, h, w)."""

    rows: RowContext
    place: str

    def forward(self, x: Tensor) -> Tensor:
        answer, change = super().forward(x), self.rows.features.change_of(self.place)
        if change is None:
            return answer
        taken, (rows, rank) = _taken(x, change.rows), change.down.shape[:2]
        beside = taken.reshape(1, -1, *taken.shape[2:])  # the channels of all rows: each group has its own kernel
        inner = conv2d(beside, change.down.flatten(0, 1), None, self.stride, self.padding, self.dilation, rows)
        inner = inner.view(rows, rank, -1) * change.strengths[:, :, None]
        return _changed(answer, change.up, inner, change.rows)


class HeadConv(LoraConv):
    """The first convolution, to whose answer an inpaint head's feature is added."""

    def forward(self, x: Tensor) -> Tensor:
        answer = super().forward(x)
        head = self.rows.features.head
        return answer if head is None else answer + head


class Block(BasicTransformerBlock):
    """A transformer block, which may be run compiled."""

    rows: RowContext

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        compiled = self.rows.block
        return super().forward(*args, **kwargs) if compiled is None else compiled(self, *args, **kwargs)


class ImagePromptAttention:
    """A cross-attention's processor: attends to the text and, apart from it, to the pictures of a row (Ye et al. 2023).

    place: the name of the attention's module.
    """

    def __init__(self, rows: RowContext, place: str) -> None:
        self._rows, self._place = rows, place

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """hidden_states: (rows, places, width). encoder_hidden_states: (rows, tokens, token width). attention_mask:
        (rows, 1, tokens), added to the scores. temb is what some attentions of diffusers read; this one does not."""
        query = _heads(attn.to_q(hidden_states), attn.heads)
        mask = None if attention_mask is None else attention_mask[:, None]
        keys, values = self._text(attn, encoder_hidden_states)
        attended = scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        found = attended.transpose(1, 2).flatten(2)
        for prompt in self._rows.features.images:
            keys, values = prompt.projected[self._place]
            seen = scaled_dot_product_attention(query, _heads(keys, attn.heads), _heads(values, attn.heads))
            found = found + prompt.scales.to(found.dtype) * seen.transpose(1, 2).flatten(2)
        answer: Tensor = attn.to_out[0](found)
        return answer

    def _text(self, attn: Attention, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the text, which are the same in every step of a run."""
        known = self._rows.features.projected
        if known is not None and self._place in known:
            return known[self._place]
        found = _heads(attn.to_k(context), attn.heads), _heads(attn.to_v(context), attn.heads)
        if known is not None:
            known[self._place] = found
        return found


READING: Mapping[type[nn.Module], type[nn.Module]] = MappingProxyType(
    {kind: kind for kind in (LoraLinear, LoraConv, HeadConv, Block)}
    | {nn.Linear: LoraLinear, nn.Conv2d: LoraConv, BasicTransformerBlock: Block}
)


def share_branches(network: nn.Module, unet: UNet2DConditionModel, places: Iterable[str]) -> None:
    """Let layers of a network that was made of a UNet have the low-rank changes that the UNet's of the same names have;
    without effect where the UNet's read no context."""
    if not isinstance(unet.conv_in, HeadConv):
        return
    rows = unet.conv_in.rows
    for place in places:
        module = network.get_submodule(place)
        if type(module) in READING:
            _read(rows, place, module, READING[type(module)])


def install_layers(unet: UNet2DConditionModel, rows: RowContext | None = None) -> RowContext:
    """Let the layers of a UNet, or of a copy of one, read a row context: this one, or a new one, which is returned.
    Parameters and their names stay. Raises ValueError for cross-attentions of another form than SDXL's."""
    rows = rows or RowContext()
    for place, module in unet.named_modules():
        if module is unet.conv_in:
            _read(rows, place, module, HeadConv)
        elif type(module) in READING:
            _read(rows, place, module, READING[type(module)])
        elif isinstance(module, Attention) and module.is_cross_attention:
            if module.norm_cross or module.residual_connection or module.rescale_output_factor != 1:
                raise ValueError(f"{place} is not a cross-attention as SDXL has it")
            attention: Any = module  # its method is typed for the processors of diffusers alone
            attention.set_processor(ImagePromptAttention(rows, place))
    return rows


def _read(rows: RowContext, place: str, module: nn.Module, kind: type[nn.Module]) -> None:
    """Let a layer read the context. It stays the same object, for some modules hold a layer under two names."""
    module.__class__ = kind
    vars(module).update(rows=rows, place=place)


def _taken(x: Tensor, rows: Tensor | None) -> Tensor:
    return x if rows is None else x.index_select(0, rows)


def _changed(answer: Tensor, first: Tensor, second: Tensor, rows: Tensor | None) -> Tensor:
    """The answer with the product of two matrices a row added, in these rows."""
    if rows is not None:
        return answer.index_add(0, rows, torch.bmm(first, second).view(len(rows), *answer.shape[1:]))
    flat = answer.reshape(len(answer), first.shape[1], second.shape[2])
    return torch.baddbmm(flat, first, second).view(answer.shape)


def _heads(x: Tensor, heads: int) -> Tensor:
    """(rows, places, width) -> (rows, heads, places, width / heads)."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)
