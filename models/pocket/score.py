"""Examine the pocket family: `python -m models.pocket.score FOLDER`.

Held-out prompts are drawn through the engine that the service draws with, and read by the oracle.
"""

import argparse
import queue
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.pocket.world.drawing import Pixels
from models.pocket.world.exam import held_out, marks
from models.pocket.write import LCM, LIGHTNING
from pipelines.catalogue import Catalogue
from pipelines.drawing import Drawer
from pipelines.events import Drawn, Progress
from pipelines.preparing import LoraCatalogue, find_loras, prepare
from pipelines.settings import DrawingSettings
from pipelines.spec import Guidance, Lora, Size, Spec

ROWS = 16


def guided(prompt: str, side: int, seed: int, steps: int = 30) -> Spec:
    """As a picture of 30 steps at scale 4 is asked for."""
    return _spec(prompt, side, seed, steps=steps, sampler="dpmpp_2m", schedule="karras", guidance=Guidance(scale=4.0))


def extreme_speed(prompt: str, side: int, seed: int) -> Spec:
    """As the performance mode of 8 steps asks for a picture."""
    loras = (Lora(source=LCM, scale=1.0, performance=True),)
    return _spec(prompt, side, seed, steps=8, sampler="lcm", schedule="lcm", loras=loras)


def lightning(prompt: str, side: int, seed: int) -> Spec:
    """As the performance mode of 4 steps asks for a picture."""
    loras = (Lora(source=LIGHTNING, scale=1.0, performance=True),)
    return _spec(prompt, side, seed, steps=4, sampler="euler", schedule="sgm_uniform", loras=loras)


def _spec(prompt: str, side: int, seed: int, **how: Any) -> Spec:
    return Spec(prompt=prompt, size=Size(width=side, height=side), seeds=(seed,), **how)


def drawn(drawer: Drawer, catalogue: LoraCatalogue, specs: list[Spec]) -> list[Pixels]:
    """The picture of each spec, (height, width, 3). All are asked for at once."""
    waiting: list[queue.Queue[Any]] = []
    for at, spec in enumerate(specs):
        events: queue.Queue[Any] = queue.Queue()
        drawer.submit(str(at), spec, prepare(spec, None, (), find_loras(spec, catalogue)), spec.prompt, events.put)
        waiting.append(events)
    return [_picture(events) for events in waiting]


def _picture(events: "queue.Queue[Any]") -> Pixels:
    while isinstance(event := events.get(), Progress):
        pass
    if not isinstance(event, Drawn):
        raise event
    picture: Pixels = event.images[0]
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the family, as models.pocket.write writes it")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--mode", choices=["guided", "extreme_speed", "lightning"], default="guided")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--sheet", type=Path, help="where to save the first pictures beside each other")
    asked = parser.parse_args()
    how = {"guided": guided, "extreme_speed": extreme_speed, "lightning": lightning}[asked.mode]
    settings = DrawingSettings(family=asked.folder, threads=asked.threads, rows=ROWS)
    catalogue = Catalogue.open(asked.folder)
    drawer = Drawer.open(settings)
    scenes, said = held_out(asked.count)
    begun = time.monotonic()
    try:
        pictures = drawn(drawer, catalogue, [how(text, asked.side, seed) for seed, text in enumerate(said)])
    finally:
        drawer.close()
    found = "  ".join(f"{name} {share:.2f}" for name, share in marks(scenes, pictures).items())
    print(f"{asked.mode} {asked.side} x {asked.side}, {asked.count} prompts, {time.monotonic() - begun:.0f} s: {found}")
    if asked.sheet:
        Image.fromarray(np.concatenate(pictures[:12], axis=1)).save(asked.sheet)


if __name__ == "__main__":
    main()
