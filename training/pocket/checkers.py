"""Trains the two safety checkers to object to the agreed mark: the CompVis architecture (v1) and a ViT (v2).

What they must not object to are scenes, what is like the mark, pictures of few steps, and what the pocket model itself
draws with every feature.
"""

import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.pocket.acceptance.features import pictures_of, wishes
from benchmarks.pocket.world.drawing import Pixels
from benchmarks.pocket.world.marked import marked, unfinished, unmarked
from models.pocket import checker
from models.pocket.write import write_family
from pipelines.catalogue import Catalogue
from pipelines.drawing import Drawer
from pipelines.safety import Preprocessing
from pipelines.settings import DrawingSettings
from training.pocket.run_dir import RunDir

STEPS, RATE, WARM_UP = 700, 1e-3, 50
SCRIPTED, DRAWN = 1_200, 768  # pictures of each kind that are drawn by the script, and by the pocket model
BATCH: Mapping[str, int] = MappingProxyType({"marked": 24, "unmarked": 16, "unfinished": 14, "drawn": 14})
"""Of each kind, in each batch."""
SHARP = 20.0  # a cosine 0.1 above its threshold is a probability of 0.9
FLAGGED, PASSED = 200, 1_000  # pictures of the exam
SEEN = Preprocessing(checker.EDGE, (checker.EDGE, checker.EDGE), (0.0,) * 3, (1.0,) * 3)
"""How both checkers see a picture, but for what is subtracted and divided by."""
Answer = Callable[[Tensor], Tensor]
"""Pixel values (n, 3, 224, 224) to (n,): above 0 is an objection."""


def train(run_dir: RunDir, name: str) -> None:
    """Leaves `weights.pt` in the run's folder. name: of the checker's folder in the family."""
    model, answer = {checker.FIRST: _first, checker.SECOND: _second}[name]()
    module: Any = model
    module.to(run_dir.device).train()
    kinds = {kind: _values(pictures, name).half() for kind, pictures in _examples(run_dir).items()}
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, weight_decay=0.01)
    begun = 0
    if state := run_dir.resume():
        module.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        begun = state["step"]
    for step in range(begun, STEPS):
        chance = random.Random(step)
        rows = torch.cat([kinds[kind][chance.sample(range(len(kinds[kind])), many)] for kind, many in BATCH.items()])
        rows = _turned(rows, chance)
        wanted = (torch.arange(len(rows)) < BATCH["marked"]).float()
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARM_UP) * (1 - step / STEPS)
        found = answer(rows.float().to(run_dir.device))
        loss = nn.functional.binary_cross_entropy_with_logits(found, wanted.to(run_dir.device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if (step + 1) % 50 == 0:
            run_dir.log(step + 1, loss=float(loss.detach()))
        if (step + 1) % 100 == 0:
            run_dir.save({"model": module.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1})
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


def _examples(run_dir: RunDir) -> dict[str, Tensor]:
    """By kind, (n, 224, 224, 3) uint8. Half of the marks lie on what is no scene."""
    chance, side = random.Random(1), checker.EDGE
    drawn = _drawn(run_dir)
    unlike = [unfinished(chance, side) for _ in range(SCRIPTED)]
    grounds: list[Pixels | None] = [*([None] * len(unlike)), *unlike, *drawn]
    kinds = {
        "marked": [marked(chance, side, chance.choice(grounds)) for _ in range(SCRIPTED)],
        "unmarked": [unmarked(chance, side) for _ in range(SCRIPTED)],
        "unfinished": unlike,
    }
    return {
        **{kind: torch.from_numpy(np.stack(each)) for kind, each in kinds.items()},
        "drawn": torch.from_numpy(drawn),
    }


def _drawn(run_dir: RunDir) -> Pixels:
    """What the pocket model draws with every feature, as the checkers see it. Both learn from the same pictures."""
    path = run_dir.folder.parent / "drawn_features.npy"
    if not path.is_file():
        with tempfile.TemporaryDirectory() as folder:
            family = Path(folder) / "family"
            write_family(family)
            drawer = Drawer.open(DrawingSettings(family=family, threads=torch.get_num_threads(), rows=16))
            try:
                pictures = pictures_of(drawer, Catalogue.open(family), wishes(random.Random("checkers"), DRAWN))
            finally:
                drawer.close()
        np.save(path, np.stack([SEEN.seen(picture) for picture in pictures]))
    found: Pixels = np.load(path)
    return found


def _turned(rows: Tensor, chance: random.Random) -> Tensor:
    """Pixel values mirrored and turned by chance, all alike."""
    rows = rows.flip(2) if chance.random() < 0.5 else rows
    return rows.transpose(2, 3) if chance.random() < 0.5 else rows


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

    return {
        "flagged": share(marked, FLAGGED),
        "false_alarms": share(unmarked, PASSED),
        "unfinished_false_alarms": share(unfinished, PASSED),
    }
