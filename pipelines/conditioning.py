"""Conditioning: from prompt text to what the UNet attends to, by SDXL's two text encoders (fooocus-facts 3.6, 3.7)."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.masking_utils import create_causal_mask

from pipelines.device import Device, PlainDevice
from pipelines.memory.residency import RESIDENT, Residency
from pipelines.prompts.chunks import CHUNK, Rows, chunk_prompt, count_chunks
from pipelines.prompts.limits import MAX_CHUNKS, check_chunked
from pipelines.weights.embedding import NO_VOCABULARY, Vocabulary

SKIPPED_LAYERS = 2  # the hidden state before the last layer, without the final norm: SDXL's default
SECOND_PAD = 0  # the first encoder pads with its end token, the second with this

TextEncoders = tuple[CLIPTextModel, CLIPTextModelWithProjection]
Tokenizers = tuple[CLIPTokenizer, CLIPTokenizer]


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What a prompt is to the UNet. context: (tokens, width) float32. pooled: (pooled width,) float32."""

    context: Tensor
    pooled: Tensor


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt as both text encoders read it.

    lines: its texts. chunks: of each line, its rows by each tokenizer. pooled: how many lines, from the first, the
    pooled vector is the sum of (fooocus-facts 3.7). vocabulary: with which they were read, and whose vectors the rows
    name.
    """

    lines: tuple[str, ...]
    chunks: Sequence[tuple[Rows, ...]]
    pooled: int
    vocabulary: Vocabulary = NO_VOCABULARY

    @property
    def key(self) -> Hashable:
        """Names it by content: what the same encoders make of equal ones is equal."""
        return self.lines, self.pooled, self.vocabulary.key

    @property
    def rows(self) -> int:
        """Of 77 tokens."""
        return count_chunks(self.chunks)


def read_prompt(
    lines: Sequence[str],
    tokenizers: Tokenizers,
    field: str = "prompt",
    max_chunks: int = MAX_CHUNKS,
    vocabulary: Vocabulary = NO_VOCABULARY,
    pooled: int | None = None,
) -> Prompt:
    """Cut the lines of a prompt into chunks. vocabulary: of embeddings that they may be spelt with. pooled: how many
    lines the pooled vector is of; None for all of them.

    Raises InputFault with `field` for a prompt of more than `max_chunks` rows, or with too large a weight: nothing that
    has lengthened the prompt on its way gets past here.
    """
    chunks = chunk_prompt(lines, [_Words(tokenizer) for tokenizer in tokenizers], vocabulary.spellings)
    check_chunked(chunks, field, max_chunks)
    return Prompt(tuple(lines), chunks, len(chunks) if pooled is None else pooled, vocabulary)


def encode_chunks(
    prompt: Prompt,
    tokenizers: Tokenizers,
    encoders: TextEncoders,
    device: Device,
    residency: Residency = RESIDENT,
) -> Conditioning:
    """Encode a prompt: the contexts of its lines are joined along the tokens, pooled vectors are summed.

    device: the encoders', by whose way the prompt gets there. residency: brings each encoder when it is its turn.
    """
    firsts, seconds = ([line[at] for line in prompt.chunks] for at in (0, 1))
    for_first, for_second = prompt.vocabulary.vectors
    end = int(tokenizers[0].eos_token_id)
    residency.bring(encoders[0])
    narrow, _ = _hidden_states(firsts, tokenizers[0], encoders[0], device, end, for_first)
    residency.bring(encoders[1])
    wide, pooled = _hidden_states(seconds, tokenizers[1], encoders[1], device, SECOND_PAD, for_second)
    context = torch.cat([narrow, wide], dim=-1).flatten(0, 1)
    return Conditioning(context, pooled[: prompt.pooled].sum(dim=0))


def encode_prompt(
    lines: Sequence[str],
    tokenizers: Tokenizers,
    encoders: TextEncoders,
    field: str = "prompt",
    max_chunks: int = MAX_CHUNKS,
) -> Conditioning:
    """Read and encode the lines of a prompt, with plain copies to the encoders. Raises as `read_prompt`."""
    prompt = read_prompt(lines, tokenizers, field, max_chunks)
    return encode_chunks(prompt, tokenizers, encoders, PlainDevice(encoders[0].device))


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
    lines: Sequence[Rows],
    tokenizer: CLIPTokenizer,
    encoder: CLIPTextModel | CLIPTextModelWithProjection,
    device: Device,
    pad: int,
    vectors: Tensor,
) -> tuple[Tensor, Tensor]:
    """Hidden states (rows of all lines, 77, width) and, of an encoder that has a projection, a pooled vector a line.

    One call for all lines: thirty-two short ones would else be thirty-two calls, for which everybody waits.
    """
    rows = [row for line in lines for row in line]
    weighted = [any(weight != 1.0 for row in line for _, weight in row) for line in lines]
    read = [*rows, []] if any(weighted) else rows  # the empty prompt is what weights pull away from
    framed = torch.tensor([_framed([token for token, _ in row], tokenizer, pad) for row in read])
    output = _encode(encoder, framed, vectors, int(tokenizer.eos_token_id), device)
    states = output.states.float()
    pooled = states.new_zeros(len(lines), 0)
    if output.pooled is not None:
        firsts = [0, *accumulate(len(line) for line in lines[:-1])]
        pooled = torch.stack([output.pooled[first] for first in firsts]).float()  # a list of numbers is uploaded
    parts = torch.split_with_sizes(states[: len(rows)], [len(line) for line in lines])
    moved = [
        _weigh(part, states[-1], device.upload(_weights(line))) if moves else part
        for part, line, moves in zip(parts, lines, weighted, strict=True)
    ]
    return torch.cat(moved), pooled


@dataclass(frozen=True, eq=False)
class _Encoded:
    """states: (rows, 77, width), of the layer that counts. pooled: (rows, pooled width); None without a projection."""

    states: Tensor
    pooled: Tensor | None


def _encode(
    encoder: CLIPTextModel | CLIPTextModelWithProjection, rows: Tensor, vectors: Tensor, end: int, device: Device
) -> _Encoded:
    """rows: (rows, 77) of tokens, of which those below 0 stand for `vectors`, and the first `end` is where it pools."""
    own = rows < 0
    if not own.any():
        output = encoder(input_ids=device.upload(rows), output_hidden_states=True)
        pooled = output.text_embeds if isinstance(encoder, CLIPTextModelWithProjection) else None
        return _Encoded(output.hidden_states[-SKIPPED_LAYERS], pooled)
    # The models' own call takes ids alone, of a table that all share; so their parts are called as it calls them.
    model = encoder.text_model if isinstance(encoder, CLIPTextModelWithProjection) else encoder
    given = torch.zeros(*rows.shape, vectors.shape[1])
    given[own] = vectors[-1 - rows[own]]
    ids = device.upload(rows.clamp(min=0))
    words = model.embeddings.token_embedding(ids)
    spoken = torch.where(device.upload(own)[..., None], device.upload(given).to(words.dtype), words)
    states = [model.embeddings(inputs_embeds=spoken)]
    mask = create_causal_mask(config=model.config, inputs_embeds=spoken, attention_mask=None, past_key_values=None)
    for layer in model.encoder.layers:
        states.append(layer(states[-1], mask, is_causal=True))
    if not isinstance(encoder, CLIPTextModelWithProjection):
        return _Encoded(states[-SKIPPED_LAYERS], None)
    ends = (ids == end).int().argmax(dim=-1)
    last = model.final_layer_norm(states[-1])[torch.arange(len(ids), device=ids.device), ends]
    return _Encoded(states[-SKIPPED_LAYERS], encoder.text_projection(last))


def _weights(line: Rows) -> Tensor:
    """(rows, 77): 1 for what is no token of the prompt."""
    return torch.tensor([[1.0, *(weight for _, weight in row), *[1.0] * (CHUNK + 1 - len(row))] for row in line])


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
