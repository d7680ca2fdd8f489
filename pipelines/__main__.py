"""`python -m pipelines "a lighthouse" --family FOLDER -o out.png`: pictures without Ray and without the gateway."""

import logging
import math
import queue
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress as Bar

from pipelines.catalogue import Catalogue
from pipelines.errors import DrawingFault, EngineDead, InputFault, WeightsFault
from pipelines.events import Drawn, Event, Note, Pixels, Step
from pipelines.needs import CHECKERS, needed_parts, well_known
from pipelines.options import Options, parse
from pipelines.prompts.folders import FolderFault
from pipelines.prompts.phrasebook import Phrasebook
from pipelines.spec import Spec

if TYPE_CHECKING:
    from pipelines.drawing import Drawer
    from pipelines.inputs import Inputs
    from pipelines.settings import DrawingSettings

LOG = "fooocus"


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw what a command line asks for. The exit code: 0, or 1 after one line about what went wrong.

    Raises SystemExit for a command line that makes no sense.
    """
    given = parse(arguments)
    if given.json:
        print(given.spec.model_dump_json(indent=2))
        return 0
    log, handler = logging.getLogger(LOG), logging.StreamHandler() if given.verbose else logging.NullHandler()
    log.addHandler(handler)  # without any, Python would show the faults that are told below
    try:
        paths = _write(_draw(given), given.out)  # one, where a picture was just enlarged
        for path, seed in zip(paths, given.spec.seeds, strict=False):
            print(f"{path} (seed {seed})")
    except InputFault as fault:
        return _told(f"{fault.field}: {fault.msg}" if fault.field else fault.msg)
    except (WeightsFault, FolderFault, DrawingFault, EngineDead, OSError) as fault:
        return _told(str(fault))
    finally:
        log.removeHandler(handler)
    return 0


def _told(fault: str) -> int:
    print(" ".join(fault.split()), file=sys.stderr)
    return 1


def _write(images: Pixels, out: Path) -> list[Path]:
    """Write pictures, (n, height, width, 3): one to `out`, several to numbered files beside it."""
    from pipelines.images.files import write_png

    several = len(images) > 1
    paths = [out.with_stem(f"{out.stem}-{at + 1}") if several else out for at in range(len(images))]
    for pixels, path in zip(images, paths, strict=True):
        write_png(pixels, path)
    return paths


def _draw(given: Options) -> Pixels:
    """The pictures of the spec, (n, height, width, 3) uint8 RGB, in the order of its seeds."""
    from pipelines.drawing import Drawer  # torch takes seconds, and --json and --help need none

    spec, catalogue = given.spec, Catalogue.open(given.family)
    phrasebook = Phrasebook.read(given.styles_folder, given.wildcards_folder)
    inputs = _expanded(_inputs(spec, catalogue, phrasebook), spec, catalogue, phrasebook)
    with _shown() as show:
        drawer = Drawer.open(_settings(given))
        try:
            images = _wait(drawer, spec, inputs, show)
        finally:
            drawer.close()
    if spec.check_safety:
        from pipelines.images.black_out import black_out
        from pipelines.safety import load

        part = catalogue.part(CHECKERS[spec.safety_checker_version])
        images = black_out(images, load(part).flags(images))
    return images


def _inputs(spec: Spec, catalogue: Catalogue, phrasebook: Phrasebook) -> "Inputs":
    """The spec's pictures and files made ready. What the family lacks is told before anything is loaded."""
    from pipelines.images.face import FaceFinder
    from pipelines.images.files import read_picture
    from pipelines.preparing import find_embeddings, find_loras, prepare

    for part, _ in needed_parts(spec):
        catalogue.part(part)
    known = _Weights(catalogue)
    for lora in spec.loras:
        if known.lora(lora.source) is None and (name := well_known(lora.source)) is not None:
            raise WeightsFault(f"The family {catalogue.name} lacks {name}: {catalogue.remedy(name)}.")
    loras, embeddings = find_loras(spec, known), find_embeddings(spec, known)
    pictures = [read_picture(Path(each.source), each.field) for each in spec.pictures]
    faces = FaceFinder(catalogue.part("face_detector")) if catalogue.has("face_detector") else None
    inputs = prepare(spec, pictures, loras, faces, embeddings=embeddings, catalogue=catalogue, phrasebook=phrasebook)
    for note in inputs.notes:
        _told(note)
    return inputs


def _expanded(inputs: "Inputs", spec: Spec, catalogue: Catalogue, phrasebook: Phrasebook) -> "Inputs":
    """With the words that the family's language model adds, where they are asked for. Raises WeightsFault."""
    if not spec.expand_prompt or inputs.enlarges_alone:
        return inputs
    from pipelines.expansion import load
    from pipelines.prompts.assembly import expanded
    from pipelines.prompts.expanding import expand_specs, fitting
    from pipelines.prompts.limits import MAX_CHUNKS
    from pipelines.prompts.tokenizer import tokenizers_of

    expander = load(catalogue.part("expansion"), time_limit_s=math.inf)
    fits = fitting(tokenizers_of(catalogue.config), MAX_CHUNKS)
    (texts,) = expand_specs([spec], expander, phrasebook, fits)
    for text in filter(None, texts):
        _told(f"The prompt was expanded: {text}")
    return replace(inputs, texts=expanded(inputs.texts, texts))


class _Weights:
    """Files of this machine, and the LoRAs and embeddings that a family has."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def lora(self, source: str) -> Path | None:
        return path if (path := Path(source)).is_file() else self._catalogue.lora(source)

    def embedding(self, source: str) -> Path | None:
        return path if (path := Path(source)).is_file() else self._catalogue.embedding(source)


def _settings(given: Options) -> "DrawingSettings":
    import torch

    from pipelines.settings import DrawingSettings

    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as fault:  # of no such device, and of a torch without CUDA
        raise InputFault("device", str(fault).splitlines()[0], "--device") from fault
    dtype = given.dtype or ("float32" if device.startswith("cpu") else "bfloat16")
    return DrawingSettings.model_validate({"family": given.family, "device": device, "dtype": dtype})


def _wait(drawer: "Drawer", spec: Spec, inputs: "Inputs", show: Callable[[Step], None]) -> Pixels:
    events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
    drawer.submit("picture", spec, inputs, events.put)
    while not isinstance(event := events.get(), Drawn):
        if isinstance(event, BaseException):
            raise event
        if isinstance(event, Step):
            show(event)
        elif isinstance(event, Note):
            _told(event.text)
    return event.images


@contextmanager
def _shown() -> Iterator[Callable[[Step], None]]:
    """A bar for the steps, on the terminal that errors go to; none where that is no terminal."""
    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("loading", total=None)
        yield lambda told: bar.update(task, description="drawing", completed=told.step, total=told.steps)


if __name__ == "__main__":
    sys.exit(main())
