"""The prompt expansion: a causal language model that adds words to prompts (what it is for: fooocus-facts 3.8).

Which words, how many and how they are drawn are rules of this project's own. Any model will do that goes
on with a text.
"""

from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import LongTensor, Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)
from transformers.utils import logging

from pipelines.errors import WeightsFault
from pipelines.prompts.words import WordFilter, WordList, is_word, read_words

WORD_LIST = "positive.txt"  # beside a model: the words that may be added, where no setting says otherwise
MAX_NEW_TOKENS, TIME_LIMIT_S = 60, 10.0
TOP = 50  # of the tokens that may come next, those that one is drawn from
ROWS = 32  # prompts in one call of the model
READ = 1024  # tokens, by a model that does not say how many it can


class PromptExpander:
    """A language model and the rules of what it may add. For one thread at a time."""

    def __init__(self, model: Any, tokenizer: Any, words: WordFilter, max_new_tokens: int, time_limit_s: float) -> None:
        """model, tokenizer: as transformers loads them. max_new_tokens: of one prompt. time_limit_s: of one call."""
        self._model, self._tokenizer, self._words, self._time_limit_s = model, tokenizer, words, time_limit_s
        reads = getattr(model.config, "max_position_embeddings", None) or READ
        self._new = min(max_new_tokens, reads // 2)
        self._room = reads - self._new
        self._end = int(tokenizer.eos_token_id)
        config: Any = GenerationConfig
        self._greedy = config(max_new_tokens=self._new, do_sample=False, eos_token_id=self._end, pad_token_id=self._end)
        # what a folder says of sampling would be heard beside it
        model.generation_config = config()
        self._choice = _choice(tokenizer, words, self._end).to(model.device)

    @torch.inference_mode()
    def expand(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """Each prompt with the words that its seed adds to it: the prompt as it is, a comma, and phrases with commas.

        A prompt and its seed have the same words in whatever company, but for float tolerance. One to which nothing may
        be added comes back as it is, an empty one among them. Raises TimeoutError when the time is up: who waits no
        more needs no words, and half of them would be another picture.
        """
        deadline = monotonic() + self._time_limit_s
        spoken = [at for at, prompt in enumerate(prompts) if prompt]
        expanded = list(prompts)
        for first in range(0, len(spoken), ROWS):
            places = spoken[first : first + ROWS]
            some = [prompts[at] for at in places]
            for at, text in zip(places, self._expanded(some, [seeds[at] for at in places], deadline), strict=True):
                expanded[at] = text
        return expanded

    def _expanded(self, prompts: Sequence[str], seeds: Sequence[int], deadline: float) -> list[str]:
        # what is too long for the model loses its beginning, here alone
        texts = [f"{prompt}," for prompt in prompts]
        read: list[list[int]] = self._tokenizer(texts, truncation=True, max_length=self._room).input_ids
        width = max(map(len, read))
        ids = torch.tensor([[self._end] * (width - len(row)) + row for row in read], device=self._model.device)
        there = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in read], device=self._model.device)
        written = self._model.generate(
            input_ids=ids,
            attention_mask=there,
            generation_config=self._greedy,  # the processor has drawn already
            logits_processor=LogitsProcessorList([Draw(self._choice, seeds, deadline)]),
        )
        rows: list[list[int]] = written[:, width:].tolist()
        return [self._with_words(prompt, row) for prompt, row in zip(prompts, rows, strict=True)]

    def _with_words(self, prompt: str, row: list[int]) -> str:
        whole = self._end in row
        written = self._tokenizer.decode(row[: row.index(self._end)] if whole else row)
        return ", ".join([prompt, *self._words.phrases(prompt, written, whole=whole)])


class Draw(LogitsProcessor):
    """Draws the next token of each row by its seed, from a choice of ids, and leaves no other one possible.

    The largest of logits and Gumbel noise is a draw from their softmax. Each token has its noise, so that rounding in
    the logits, which other rows in the call may change, does not move what is drawn.
    """

    def __init__(self, choice: Tensor, seeds: Sequence[int], deadline: float) -> None:
        self._choice, self._deadline = choice, deadline
        self._chances = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: LongTensor, scores: Tensor) -> Tensor:
        if monotonic() > self._deadline:
            raise TimeoutError("the prompt expansion took too long")
        found = scores[:, self._choice].float()
        least = found.topk(min(TOP, found.shape[1])).values[:, -1:]
        noise = torch.stack([_gumbel(found.shape[1], chance) for chance in self._chances]).to(found.device)
        drawn = self._choice[(found + noise).masked_fill(found < least, -torch.inf).argmax(dim=1)]
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn[:, None], 0.0)


def _gumbel(count: int, chance: torch.Generator) -> Tensor:
    """On the CPU, where every machine draws the same."""
    uniform = torch.rand(count, generator=chance, dtype=torch.float64).clamp_min(1e-12)
    return -(-uniform.log()).log().float()


def _choice(tokenizer: Any, words: WordFilter, end: int) -> Tensor:
    """The ids that may come next: those of the allowed words and the comma, or all of plain text; and the end's."""
    found = {end}
    if words.allowed is not None:
        for word in sorted(words.allowed - words.blocked):
            found.update(tokenizer(f", {word}", add_special_tokens=False).input_ids)
    else:
        special = {*tokenizer.all_special_ids}
        texts = tokenizer.batch_decode([[at] for at in range(len(tokenizer))])
        found |= {at for at, text in enumerate(texts) if at not in special and _is_plain(text)}
    return torch.tensor(sorted(found))


def _is_plain(text: str) -> bool:
    """Whether nothing in the text of a token keeps it out of a word, or between two of them."""
    return all(is_word(f"a{sign}a") or sign in " ," for sign in text)


def load(
    folder: Path,
    device: torch.device | str = "cpu",
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    time_limit_s: float = TIME_LIMIT_S,
    allowed: WordList | None = None,
    blocked: WordList = (),
) -> PromptExpander:
    """The language model in `folder`, in fp32: its `config.json`, safetensors and the files of its tokenizer.

    allowed: None for the `positive.txt` of the folder, or any word where it has none. No code of the folder is run.
    Raises WeightsFault when something is missing or not as the config says.
    """
    if allowed is None and (folder / WORD_LIST).is_file():
        allowed = folder / WORD_LIST
    words = WordFilter(None if allowed is None else read_words(allowed), read_words(blocked))
    models: Any = AutoModelForCausalLM
    tokenizers: Any = AutoTokenizer
    told: Any = logging
    told.disable_progress_bar()  # there would be one for each load, in the log of a service
    here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        model, found = models.from_pretrained(
            folder, **here, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        tokenizer = tokenizers.from_pretrained(folder, **here, truncation_side="left")
    except Exception as fault:  # of many classes, for each file another
        raise WeightsFault(f"The language model in {folder} cannot be read: {fault}") from fault
    if lacking := sorted(map(str, found["missing_keys"] | found["mismatched_keys"])):
        raise WeightsFault(f"The language model in {folder} is of another shape than its config.json: {lacking[0]}.")
    if tokenizer.eos_token_id is None:
        raise WeightsFault(f"The tokenizer in {folder} has no token for the end of a text.")
    model.train(False)
    model.requires_grad_(False)
    torch.nn.Module.to(model, torch.device(device))
    return PromptExpander(model, tokenizer, words, max_new_tokens, time_limit_s)
