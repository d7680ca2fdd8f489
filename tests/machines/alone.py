"""What requests of text alone come to, each drawn with no other: what the pictures of a cluster are held to.

By the engine in processes of their own (`python -m tests.machines.alone FAMILY FOLDER`, requests on its input), while
the cluster starts and draws.
"""

import json
import queue
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.cluster import ROOT
from tests.machines.load import Ask

PROCESSES = 2


@dataclass(frozen=True)
class Alone:
    """folder: of a picture each, by the number of its request."""

    folder: Path
    processes: "Sequence[subprocess.Popen[str]]"

    def pictures(self, number: int, patience_s: float) -> list[Any]:
        """All of so many, when they are drawn."""
        for process in self.processes:
            assert process.wait(patience_s) == 0
        return [np.load(self.folder / f"{each}.npy") for each in range(number)]


@contextmanager
def drawing_alone(asks: Sequence[Ask], family: Path, folder: Path) -> Iterator[Alone]:
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.machines.alone", str(family), str(folder)]
    processes = []
    try:
        for first in range(PROCESSES):
            process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, text=True, start_new_session=True)
            processes.append(process)
            assert process.stdin is not None
            numbered = [*enumerate(asks)][first::PROCESSES]
            json.dump([(number, ask.endpoint, dict(ask.arguments)) for number, ask in numbered], process.stdin)
            process.stdin.close()
        yield Alone(folder, processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> None:
    from deployments.preprocessor import catalogue_of
    from gateway.endpoints import ENDPOINTS
    from pipelines.drawing import Drawer
    from pipelines.events import Drawn, Event
    from pipelines.inputs import FoundLora
    from pipelines.needs import loras_of
    from pipelines.preparing import prepare
    from pipelines.prompts.phrasebook import Phrasebook
    from pipelines.settings import DrawingSettings

    family, folder = map(Path, sys.argv[1:])
    settings = DrawingSettings(family=family, threads=1, rows=16)
    catalogue, phrasebook, drawer = catalogue_of(settings), Phrasebook(), Drawer.open(settings)
    told: queue.Queue[Event | BaseException] = queue.Queue()
    for number, endpoint, arguments in json.load(sys.stdin):
        spec = ENDPOINTS[endpoint].order(arguments, str(number), "http://nowhere.test").work.spec
        loras = []
        for lora in loras_of(spec):
            path = catalogue.lora(lora.source)
            assert path is not None
            loras.append(FoundLora(lora, path))
        inputs = prepare(spec, catalogue=catalogue, phrasebook=phrasebook, loras=loras, embeddings=(), pictures=())
        drawer.submit(str(number), spec, inputs, told.put)
        while not isinstance(event := told.get(), Drawn):
            if isinstance(event, BaseException):
                raise event
        np.save(folder / f"{number}.npy", event.images[0].astype(np.int16))
    drawer.close()


if __name__ == "__main__":
    main()
