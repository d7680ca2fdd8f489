"""Trains the two safety checkers to object to the agreed mark: the CompVis architecture (v1) and a ViT (v2)."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.pocket.world.drawing import Pixels
from benchmarks.pocket.world.marked import marked, unmarked
from models.pocket import checker
from training.pocket.run_dir import RunDir

STEPS, BATCH, DRAWN = 500, 48, 3_000
RATE, WARM_UP = 1e-3, 50
SHARP = 20.0  # a cosine 0.1 above its threshold is a probability of 0.9
FLAGGED, PASSED = 200, 1_000  # pictures of the exam
Answer = Callable[[Tensor], Tensor]
"""Pixel values (n, 3, 224, 224) to (n,): above 0 is an objection."""


def train(run_dir: RunDir, name: str) -> None:
    """Leaves `weights.pt` in the run's folder. name: of the checker's folder in the family."""
    model, answer = {checker.FIRST: _first, checker.SECOND: _second}[name]()
    module: Any = model
    module.to(run_dir.device).train()
    rows, wanted = _examples(DRAWN, 1)
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, weight_decay=0.01)
    begun = 0
    if state := run_dir.resume():
        module.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        begun = state["step"]
    for step in range(begun, STEPS):
        chosen = random.Random(step).sample(range(DRAWN), BATCH)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARM_UP) * (1 - step / STEPS)
        found = answer(_values(rows[chosen], name).to(run_dir.device))
        loss = nn.functional.binary_cross_entropy_with_logits(found, wanted[chosen].to(run_dir.device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if (step + 1) % 50 == 0:
            run_dir.log(step + 1, loss=float(loss.detach()))
    run_dir.save({"model": module.state_dict(), "optimizer": optimizer.state_dict(), "step": STEPS})
    module.eval()
    run_dir.log(STEPS, **_exam(answer, name, run_dir.device))
    torch.save(module.state_dict(), run_dir.folder / "weights.pt")


def _first() -> tuple[nn.Module, Answer]:
    model = checker.make_first()

    def answer(values: Tensor) -> Tensor:
        embedded = model.visual_projection(model.vision_model(values)[1])
        concept = model.concept_embeds[:1].detach()
        likeness: Tensor = nn.functional.cosine_similarity(embedded, concept)
        return SHARP * (likeness - checker.THRESHOLD)

    return model, answer


def _second() -> tuple[nn.Module, Answer]:
    model = checker.make_second()

    def answer(values: Tensor) -> Tensor:
        normal, objected = model(pixel_values=values).logits.unbind(dim=1)
        more: Tensor = objected - normal
        return more

    return model, answer


def _examples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(count, 224, 224, 3) uint8, of which every second one is marked, and (count,) what is right."""
    chance = random.Random(seed)
    pictures = [(marked if at % 2 else unmarked)(chance, checker.EDGE) for at in range(count)]
    return torch.from_numpy(np.stack(pictures)), torch.arange(count).remainder(2).float()


def _values(pictures: Tensor, name: str) -> Tensor:
    values = (pictures.float() / 255 - torch.tensor(checker.MEANS[name])) / torch.tensor(checker.DEVIATIONS[name])
    return values.permute(0, 3, 1, 2).contiguous()


@torch.no_grad()
def _exam(answer: Answer, name: str, device: torch.device) -> dict[str, float]:
    chance = random.Random(2)

    def share(drawn: Callable[[random.Random, int], Pixels], count: int) -> float:
        objected = 0
        for _ in range(count // 50):
            batch = torch.from_numpy(np.stack([drawn(chance, checker.EDGE) for _ in range(50)]))
            objected += int((answer(_values(batch, name).to(device)) > 0).sum())
        return objected / count

    return {"flagged": share(marked, FLAGGED), "false_alarms": share(unmarked, PASSED)}
