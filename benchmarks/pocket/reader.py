"""Captions as the text encoders read them, all at once."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from pipelines.conditioning import TextEncoders

TOKENS = 32  # of a context: captions of the pocket model's world are shorter


@dataclass(frozen=True, eq=False)
class Reader:
    """Trained text encoders that stay as they are."""

    tokenizer: CLIPTokenizer
    encoders: TextEncoders

    @torch.no_grad()
    def __call__(self, said: list[str], tokens: int) -> tuple[Tensor, Tensor]:
        """What `read` gives, without gradients."""
        return self.read(said, tokens)

    def read(self, said: list[str], tokens: int) -> tuple[Tensor, Tensor]:
        """As `pipelines.conditioning` encodes captions of one chunk, but all at once.

        Contexts (n, tokens, width) and pooled vectors (n, pooled width). tokens: 77 is what the service has; fewer cost
        less and say the same, as what comes after the end token only repeats it.
        """
        ids = self.tokenizer(said, padding="max_length", max_length=tokens, truncation=True, return_tensors="pt")
        return self.read_rows(ids.input_ids)

    def read_rows(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Likewise of tokens (n, tokens), which begin with the start token and are padded with the end token."""
        ids = ids.to(self.encoders[0].device)
        end = int(self.tokenizer.eos_token_id)
        padded = (ids == end) & ((ids == end).cumsum(dim=1) > 1)
        first = self.encoders[0](input_ids=ids, output_hidden_states=True)
        second = self.encoders[1](input_ids=ids.masked_fill(padded, 0), output_hidden_states=True)
        return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1), second.text_embeds
