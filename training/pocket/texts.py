"""Trains the two text encoders to know what captions say, before the UNet learns to draw it.

Each encoder must tell, from the state at the end token, shape, colour, size and place of both things and the
background, with "unsaid" as an answer. That is what binds captions soon: a UNet that had to teach its text encoders
through its own loss learns shapes long before colours.
"""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.scenes import COLOURS, PLACES, SHAPES, SIZES, Scene, any_scene
from models.pocket import shapes
from models.pocket.words import PLACE_WORDS, SIZE_WORDS
from training.pocket.run_dir import RunDir

STEPS, BATCH, TOKENS = 1200, 96, 32
RATE = 1e-3
QUESTIONS: tuple[tuple[str, ...], ...] = (
    *(SHAPES, tuple(COLOURS), tuple(SIZES), tuple(PLACES)) * 2,
    tuple(COLOURS),
)


def make_encoders(vocabulary: int) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Untrained encoders of the pocket model's shape."""
    first, second = (CLIPTextConfig(**shapes.text_encoder(vocabulary, second=second)) for second in (False, True))
    return CLIPTextModel(first), CLIPTextModelWithProjection(second)


def train(run_dir: RunDir, tokenizer: CLIPTokenizer) -> None:
    """Train both encoders. Leaves `encoders.pt` in the run's folder."""
    encoders = make_encoders(len(tokenizer))
    parts: Any = nn.ModuleList(encoders)
    first, second = parts.to(run_dir.device).train()
    heads = nn.ModuleList(_Heads(width) for width in (shapes.FIRST_WIDTH, shapes.SECOND_WIDTH, shapes.PROJECTION))
    heads.to(run_dir.device)
    parts.append(heads)
    optimizer = torch.optim.AdamW(parts.parameters(), lr=RATE, weight_decay=0.01)
    begun = 0
    if state := run_dir.resume():
        parts.load_state_dict(state["parts"])
        optimizer.load_state_dict(state["optimizer"])
        begun = state["step"]
    for step in range(begun, STEPS):
        chance = random.Random(step)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 200) * (1 - step / STEPS)
        captions, answers = _lesson(chance)
        ids = _ids(tokenizer, captions).to(run_dir.device)
        at, end = torch.arange(len(ids)), ids.argmax(dim=1)
        one = first(input_ids=ids, output_hidden_states=True)
        two = second(input_ids=ids, output_hidden_states=True)
        states = (one.hidden_states[-2][at, end], two.hidden_states[-2][at, end], two.text_embeds)
        answers = answers.to(run_dir.device)
        told = [head(state) for head, state in zip(heads, states, strict=True)]
        losses = torch.stack(
            [
                torch.stack([cross_entropy(logits, answers[:, place]) for place, logits in enumerate(each)]).mean()
                for each in told
            ]
        )
        optimizer.zero_grad()
        losses.mean().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 99:
            right = [
                float(
                    torch.stack(
                        [(logits.argmax(1) == answers[:, place]).float() for place, logits in enumerate(each)]
                    ).mean()
                )
                for each in told
            ]
            run_dir.log(step + 1, loss=float(losses.detach().mean()), first=right[0], second=right[1], pooled=right[2])
        if step % 500 == 499:
            run_dir.save({"parts": parts.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1})
    torch.save([first.state_dict(), second.state_dict()], run_dir.folder / "encoders.pt")


class _Heads(nn.Module):
    """One linear answer to each question."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.answers = nn.ModuleList(nn.Linear(width, len(choices) + 1) for choices in QUESTIONS)

    def forward(self, state: Tensor) -> list[Tensor]:
        return [answer(state) for answer in self.answers]


def _lesson(chance: random.Random) -> tuple[list[str], Tensor]:
    captions, answers = [], []
    for _ in range(BATCH):
        scene = any_scene(chance)
        text = caption(scene, chance)
        captions.append(text)
        answers.append(_answers(scene, text))
    return captions, torch.tensor(answers)


def _answers(scene: Scene, text: str) -> list[int]:
    """Which choice is right to each question; the last, which no table has, is "unsaid"."""
    said = _said(scene, text)
    return [
        choices.index(word) if word in choices else len(choices) for choices, word in zip(QUESTIONS, said, strict=True)
    ]


def _said(scene: Scene, text: str) -> list[str]:
    parts: Sequence[str] = text.split(" and ") if len(scene.things) > 1 else [text]
    words: list[str] = []
    for at in range(2):
        if at >= len(scene.things):
            words += ["", "", "", ""]
            continue
        thing, part = scene.things[at], parts[at]
        words += [
            thing.shape,
            thing.colour,
            thing.size if any(f"{each} " in part for each in SIZE_WORDS[thing.size]) else "",
            thing.place if any(each in part for each in PLACE_WORDS[thing.place]) else "",
        ]
    return [*words, scene.background if scene.background in text else ""]


def _ids(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
    ids: Tensor = tokenizer(
        list(captions), padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
    ).input_ids
    return ids
