"""Conditioning: from prompt text to what the UNet attends to, by SDXL's two text encoders (fooocus-facts 3.6, 3.7)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pipelines.prompts.chunks import CHUNK, Rows, chunk_prompt
from pipelines.prompts.limits import MAX_CHUNKS, check_chunked

SKIPPED_LAYERS = 2  # the hidden state before the last layer, without the final norm: SDXL's default
SECOND_PAD = 0  # the first encoder pads with its end token, the second with this

TextEncoders = tuple[CLIPTextModel, CLIPTextModelWithProjection]
Tokenizers = tuple[CLIPTokenizer, CLIPTokenizer]


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What a prompt is to the UNet. context: (tokens, width) float32. pooled: (pooled width,) float32."""

    context: Tensor
    pooled: Tensor


def encode_prompt(
    lines: Sequence[str],
    tokenizers: Tokenizers,
    encoders: TextEncoders,
    field: str = "prompt",
    max_chunks: int = MAX_CHUNKS,
) -> Conditioning:
    """Encode the lines of a prompt: contexts are joined along the tokens, pooled vectors are summed.

    Raises InputFault with `field` for a prompt of more than `max_chunks` rows, or with too large a weight: nothing that
    has lengthened the prompt on its way gets past here.
    """
    chunked = chunk_prompt(lines, [_Words(tokenizer) for tokenizer in tokenizers])
    check_chunked(chunked, field, max_chunks)
    encoded = [_encode_rows(first, second, tokenizers, encoders) for first, second in chunked]
    return Conditioning(
        context=torch.cat([part.context for part in encoded]),
        pooled=torch.stack([part.pooled for part in encoded]).sum(dim=0),
    )


def _encode_rows(first: Rows, second: Rows, tokenizers: Tokenizers, encoders: TextEncoders) -> Conditioning:
    """Of one line. first, second: its rows for each encoder, equally many."""
    end = int(tokenizers[0].eos_token_id)
    narrow, _ = _hidden_states(first, tokenizers[0], encoders[0], pad=end)
    wide, pooled = _hidden_states(second, tokenizers[1], encoders[1], pad=SECOND_PAD)
    return Conditioning(context=torch.cat([narrow, wide], dim=-1).flatten(0, 1), pooled=pooled)


@dataclass(frozen=True)
class _Words:
    """The ids of words."""

    tokenizer: CLIPTokenizer

    def __call__(self, words: Sequence[str]) -> Sequence[Sequence[int]]:
        if not words:
            return []
        ids: Sequence[Sequence[int]] = self.tokenizer(list(words), add_special_tokens=False).input_ids
        return ids


def _hidden_states(
    rows: Rows,
    tokenizer: CLIPTokenizer,
    encoder: CLIPTextModel | CLIPTextModelWithProjection,
    pad: int,
) -> tuple[Tensor, Tensor]:
    """Hidden states (rows, 77, width) and, of an encoder that has a projection, the first row's pooled vector."""
    weighted = any(weight != 1.0 for row in rows for _, weight in row)
    read = [*rows, []] if weighted else rows  # the empty prompt is what weights pull away from
    ids = torch.tensor([_framed([token for token, _ in row], tokenizer, pad) for row in read], device=encoder.device)
    output = encoder(input_ids=ids, output_hidden_states=True)
    states = output.hidden_states[-SKIPPED_LAYERS].float()
    pooled = output.text_embeds[0].float() if isinstance(encoder, CLIPTextModelWithProjection) else states.new_zeros(0)
    if weighted:
        weights = torch.ones(len(rows), CHUNK + 2, device=states.device)
        for at, row in enumerate(rows):
            weights[at, 1 : 1 + len(row)] = torch.tensor([weight for _, weight in row])
        states = _weigh(states[:-1], states[-1], weights)
    return states, pooled


def _framed(tokens: Sequence[int], tokenizer: CLIPTokenizer, pad: int) -> list[int]:
    start, end = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)
    return [start, *tokens, end, *[pad] * (CHUNK - len(tokens))]


def _weigh(states: Tensor, empty: Tensor, weights: Tensor) -> Tensor:
    """Move each token's state away from (or towards) the empty prompt's, then restore each row's mean.

    No factor restores the mean of a row that has become 0: such a row stays as it was moved.
    """
    moved = empty + weights[..., None] * (states - empty)
    mean, became = states.mean(dim=(1, 2), keepdim=True), moved.mean(dim=(1, 2), keepdim=True)
    return moved * torch.where(became == 0, 1.0, mean / became)
