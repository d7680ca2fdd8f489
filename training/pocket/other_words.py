"""Teaches the text encoders to make nothing of words that are not of the pocket model's world.

Styles and the expansion put such words round every prompt. The encoders learned to read captions alone, so what came
after one in a longer text was new to them, and the UNet drew other things in other places. Here they learn to read a
caption among other words as they read it without, and other words alone as an empty prompt. What a word adds can only
be seen behind it, so each other word is to say what a text that ended before it would say there.
"""

import copy
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from benchmarks.pocket.reader import Reader
from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.scenes import COLOURS, SHAPES, any_scene
from models.pocket.style_words import STYLE_WORDS
from models.pocket.tokenizer import prompt_words
from models.pocket.words import NAMES, PLACE_WORDS, SIZE_WORDS
from pipelines.prompts.chunks import CHUNK
from pipelines.prompts.styles import PLACE, Style, read_styles
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan, follow

PLAN = Plan(steps=2_500, rate=1e-3, examined=500, half=False)
BATCH = 24
KINDS: Mapping[str, float] = {"plain": 1.0, "styled": 0.375, "expanded": 0.1875, "among": 0.25, "alone": 0.1875}
"""A caption as it is, which is in every lesson, and shares of other texts: a caption in a style; with the expansion's
words; among any words; these without one."""
PLAIN = 10.0  # what an error counts for where nothing else is said: a LoRA of few steps does not forgive a hundredth
FRAGMENTS = 0.15  # share of captions of which only a few words in a row are said
SPREAD = 200  # captions by whose differences errors are measured
WORDS = 24  # other words at a place, at most
SMALL_WORDS = frozenset("a an the of on in at to side".split())


def train(run_dir: RunDir, reader: Reader) -> None:
    """Leaves `encoders.pt`, the weights of both, in the run's folder."""
    taught = replace(reader, encoders=copy.deepcopy(reader.encoders))
    both = nn.ModuleList(taught.encoders).requires_grad_()
    school = _School.of(reader, taught)
    others = [kind for kind in KINDS if kind != "plain"]

    def lesson(chance: random.Random, side: int) -> Tensor:
        return PLAIN * school.error(chance, ["plain"]) + school.error(chance, others)

    def exam() -> Mapping[str, float]:
        return {kind: school.error(random.Random(99), [kind]).item() for kind in KINDS}

    follow(run_dir, both, PLAN, lesson, exam)
    torch.save([encoder.state_dict() for encoder in both], run_dir.folder / "encoders.pt")


@dataclass(frozen=True, slots=True)
class _Words:
    """Tokens in a row. own: whether they are of the pocket model's world."""

    tokens: Sequence[int]
    own: bool


@dataclass(frozen=True, eq=False)
class _School:
    """texts: makes what is read. spreads: of the teacher's states and pooled vectors over captions, (width,) each."""

    teacher: Reader
    taught: Reader
    texts: "_Texts"
    spreads: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, teacher: Reader, taught: Reader) -> "_School":
        texts = _Texts.of(teacher.tokenizer)
        chance = random.Random(7)
        rows = torch.stack([_row(texts.of_kind("plain", chance), teacher.tokenizer) for _ in range(SPREAD)])
        with torch.no_grad():
            states, pooled = teacher.read_rows(rows)
        return cls(teacher, taught, texts, (states.flatten(0, 1).std(dim=0), pooled.std(dim=0)))

    def error(self, chance: random.Random, kinds: Sequence[str]) -> Tensor:
        """Of a batch of texts of these kinds: the mean square of what differs, by how much captions differ."""
        tokenizer, shares = self.teacher.tokenizer, [KINDS[kind] for kind in kinds]
        texts = [self.texts.of_kind(kind, chance) for kind in chance.choices(kinds, shares, k=BATCH)]
        states, pooled = self.taught.read_rows(torch.stack([_row(text, tokenizer) for text in texts]))
        # The teacher reads what of the world is there after each part; the last is all of it.
        stages = [[_row([own], tokenizer) for own in _so_far(text)] for text in texts]
        with torch.no_grad():
            wanted, wanted_pooled = self.teacher.read_rows(torch.stack(list(chain(*stages))))
        firsts = torch.tensor([0, *(len(each) for each in stages)]).cumsum(0)
        which, where = (torch.tensor(list(each)) for each in zip(*map(_wanted, texts), strict=True))
        errors = (states - wanted[firsts[:-1, None] + which, where]) / self.spreads[0]
        return errors.square().mean() + ((pooled - wanted_pooled[firsts[1:] - 1]) / self.spreads[1]).square().mean()


@dataclass(frozen=True, eq=False)
class _Texts:
    """Makes texts. styles: that have no word of the world. others: such words."""

    tokenizer: CLIPTokenizer
    styles: Sequence[Style]
    others: Sequence[str]

    @classmethod
    def of(cls, tokenizer: CLIPTokenizer) -> "_Texts":
        meant = {*COLOURS, *SHAPES, "background"}
        for words in chain(NAMES.values(), SIZE_WORDS.values(), PLACE_WORDS.values()):
            meant.update(word for text in words for word in text.split())
        meant -= SMALL_WORDS
        styles = [style for style in read_styles().values() if not _spoken(style) & meant]
        return cls(tokenizer, styles, [word for word in prompt_words() if word not in meant])

    def of_kind(self, kind: str, chance: random.Random) -> list[_Words]:
        """Not more than fits into a chunk, of which captions go first."""
        if kind == "alone":
            style = chance.choice(self.styles)
            parts = [(chance.choice([*style.negative, self._any(chance)]), False)]
        elif kind == "plain":
            parts = [(self._caption(chance), True)]
        elif kind == "styled":
            style = chance.choice([each for each in self.styles if each.takes_prompt])
            before, behind = chance.choice([text for text in style.positive if PLACE in text]).split(PLACE, 1)
            parts = [(before, False), (self._caption(chance), True), (behind.replace(PLACE, ""), False)]
        elif kind == "expanded":
            added = chance.sample(STYLE_WORDS, chance.randint(1, 40))
            parts = [(self._caption(chance), True), (", " + ", ".join(added), False)]
        else:
            words = self._caption(chance).split()
            cut = chance.randint(0, len(words))
            parts = [(" ".join(words[:cut]), True), (" ".join(words[cut:]), True)]
            for at in (2, 1, 0):
                if chance.random() < 0.6:
                    parts.insert(at, (self._any(chance), False))
        return [_Words(self._ids(text), own) for text, own in parts]

    def _caption(self, chance: random.Random) -> str:
        said = caption(any_scene(chance), chance, complete=chance.random() < 0.5)
        if chance.random() < FRAGMENTS:
            words = said.split()
            begun = chance.randrange(len(words))
            return " ".join(words[begun : begun + chance.randint(1, 4)])
        return said

    def _any(self, chance: random.Random) -> str:
        joint = chance.choice((" ", ", "))
        return joint.join(chance.choices(self.others, k=chance.randint(1, WORDS)))

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return found


def _row(text: Sequence[_Words], tokenizer: CLIPTokenizer) -> Tensor:
    """(77,)."""
    start, end = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)
    kept = [token for words in text for token in words.tokens][:CHUNK]
    return torch.tensor([start, *kept, end, *[end] * (CHUNK - len(kept))])


def _so_far(text: Sequence[_Words]) -> list[_Words]:
    """The world's tokens before the first part, and after each."""
    found = [_Words([], own=True)]
    for words in text:
        found.append(_Words([*found[-1].tokens, *words.tokens], own=True) if words.own else found[-1])
    return found


def _wanted(text: Sequence[_Words]) -> tuple[list[int], list[int]]:
    """For each of the 77 tokens which stage it is to be read as, and where in it.

    A token of the world as in the text without others; another as what a text would say there that had ended before.
    """
    which, where, own = [0], [0], 0
    for stage, words in enumerate(text, 1):
        for _ in words.tokens:
            own += words.own
            which.append(stage)
            where.append(own if words.own else max(len(where), 1 + own))
    for at in range(len(where), CHUNK + 2):
        which.append(len(text))
        where.append(max(at, 1 + own))
    return which[: CHUNK + 2], [min(each, CHUNK + 1) for each in where[: CHUNK + 2]]


def _spoken(style: Style) -> set[str]:
    texts = " ".join((*style.positive, *style.negative)).replace(PLACE, " ").lower()
    return set("".join(letter if letter.isalpha() else " " for letter in texts).split())
