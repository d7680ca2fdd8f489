"""The trainer of what is added to the finished UNet, with checkpoints, a log and an exam."""

import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from training.pocket.run_dir import Average, RunDir

WARM_UP, DECAY = 50, 0.99
FEW = 256  # side of a picture of few tokens
KEPT_EVERY, LOGGED_EVERY = 120.0, 25  # seconds, steps

Lesson = Callable[[random.Random, int], Tensor]
"""The loss of one batch at a picture's side."""
Exam = Callable[[], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a part is trained.

    steps: in all. rate: of learning, at most. sides: those that a step draws from. examined: every so many steps.
    half: layers compute in bfloat16, which takes two thirds of the time; not where an answer's last bits are taught.
    """

    steps: int
    rate: float
    sides: tuple[int, ...] = (256,)
    examined: int = 100
    half: bool = True

    def rate_at(self, step: int) -> float:
        """Rises at first and then falls to nothing."""
        if step < WARM_UP:
            return self.rate * (step + 1) / WARM_UP
        return self.rate * (1 + math.cos(math.pi * (step - WARM_UP) / (self.steps - WARM_UP))) / 2


def follow(run_dir: RunDir, module: nn.Module, plan: Plan, lesson: Lesson, exam: Exam) -> None:
    """Train what of `module` wants gradients. In the exam and in the end it has the average of its weights.

    Goes on where an earlier run was interrupted; step by step the random numbers are the same. Raises ValueError where
    that run had another plan: its rate would not have fallen to nothing, or it would be over at once.
    """
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=plan.rate, betas=(0.9, 0.99), fused=run_dir.device.type == "cuda")
    average = Average(module, DECAY)
    begun = 0
    told = json.dumps(asdict(plan))
    if state := run_dir.resume():
        if state.get("plan") != told:
            raise ValueError(f"{run_dir.folder} holds a checkpoint of another plan: remove it")
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        average.weights = state["average"]
        begun = state["step"]
    else:
        _examine(run_dir, 0, exam)
    seen: list[Tensor] = []  # read only when they are logged, for a reader waits for the GPU
    kept = time.monotonic()
    for step in range(begun, plan.steps):
        side = random.Random(f"side {step}").choice(plan.sides)
        chance = random.Random(step)
        torch.manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = plan.rate_at(step)
        with (
            torch.autocast(run_dir.device.type, torch.bfloat16, enabled=plan.half),
            sdpa_kernel(_attention(run_dir, side)),
        ):
            loss = lesson(chance, side)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        average.follow(module, step)
        done = step + 1
        seen.append(loss.detach())
        if done % LOGGED_EVERY == 0:
            run_dir.log(done, loss=float(torch.stack(seen).mean()))
            seen = []
        if done % plan.examined == 0 and done < plan.steps:
            with _averaged(module, average):
                _examine(run_dir, done, exam)
        if time.monotonic() - kept > KEPT_EVERY or done == plan.steps:
            held = {"module": module.state_dict(), "optimizer": optimizer.state_dict()}
            run_dir.save({**held, "average": average.weights, "step": done, "plan": told})
            kept = time.monotonic()
    module.load_state_dict(average.weights)
    _examine(run_dir, plan.steps, exam)


def _attention(run_dir: RunDir, side: int) -> list[SDPBackend]:
    """On a CPU plain attention takes less time backwards for the few tokens of small pictures, the fused one else."""
    if run_dir.device.type == "cpu" and side <= FEW:
        return [SDPBackend.MATH]
    return [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


@torch.no_grad()
def _examine(run_dir: RunDir, step: int, exam: Exam) -> None:
    run_dir.log(step, **exam())


@contextmanager
def _averaged(module: nn.Module, average: Average) -> Iterator[None]:
    now = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.load_state_dict(average.weights)
    yield
    module.load_state_dict(now)
