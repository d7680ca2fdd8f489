"""Train one part of the pocket model: `python -m training.pocket.train PART`.

Goes on where an earlier run of the same command was interrupted. Checkpoints and logs lie outside the work tree. Text
encoders and UNet that were not trained here are the shipped ones; `image_prompt` needs `vision` first, and
`face_prompt` needs `image_prompt`.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import torch
from transformers import CLIPTokenizer

from models.pocket import checker
from models.pocket.tokenizer import write_tokenizer
from pipelines.preparing import ANNOTATORS
from training.pocket import (
    checkers,
    concept,
    controls,
    crew,
    expansion,
    image_prompts,
    inpainting,
    large,
    outlines,
    performance,
    pictures,
    refiner,
    texts,
    upscaler,
    vision,
)
from training.pocket.crew import Crew
from training.pocket.school import LARGE, PICTURES, STAGES, School, open_reader
from training.pocket.session import Session

CHECKPOINTS = Path.home() / ".cache" / "fooocus-pocket-training"
ALONE = ("texts", "vision", "upscaler", "expansion", checker.FIRST, checker.SECOND)  # need no other part
TAUGHT = (*performance.MODES, *ANNOTATORS, *image_prompts.KINDS, "outlines", "inpaint", "refiner", "concept")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    order = f"texts, {PICTURES}, {LARGE} where there is a GPU, then others"
    parser.add_argument("part", choices=(*ALONE, *STAGES, *TAUGHT), help=order)
    parser.add_argument("--checkpoints", type=Path, default=CHECKPOINTS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="torch's threads on the CPU")
    parser.add_argument("--processes", type=int, default=1, help="that train a UNet together on one CPU")
    asked = parser.parse_args()
    if asked.processes > 1 and asked.part != PICTURES:
        parser.error(f"only `{PICTURES}` is trained by several processes")
    crew.run(asked.processes, partial(_train, asked))


def _train(asked: argparse.Namespace, crew: Crew) -> None:
    if asked.threads:
        torch.set_num_threads(asked.threads)
    torch.manual_seed(1)
    session = Session.open(asked.checkpoints, asked.part, torch.device(asked.device))
    if asked.part == PICTURES:
        pictures.train(session, open_reader(_tokenizer(), asked.checkpoints, session.device), crew)
    elif asked.part == LARGE:
        large.train(session, School.open(session, asked.checkpoints, _tokenizer(), stages=(PICTURES,)))
    elif asked.part in ALONE:
        _train_alone(session, asked.part)
    else:
        teach(session, School.open(session, asked.checkpoints, _tokenizer()), asked.part, asked.checkpoints)


def _train_alone(session: Session, part: str) -> None:
    match part:
        case "texts":
            texts.train(session, _tokenizer())
        case "vision":
            vision.train(session)
        case "upscaler":
            upscaler.train(session)
        case "expansion":
            expansion.train(session)
        case _:
            checkers.train(session, part)


def teach(session: Session, school: School, part: str, checkpoints: Path) -> None:
    """Train what is added to the finished text encoders and UNet."""
    match part:
        case "canny" | "cpds":
            controls.train(session, school, part)
        case "outlines":
            outlines.train(session, school)
        case "inpaint":
            inpainting.train(session, school)
        case "refiner":
            refiner.train(session, school)
        case "concept":
            concept.train(session, school)
        case _ if part in performance.MODES:
            performance.train(session, school, performance.MODES[part])
        case _:
            image_prompts.train(session, school, part, checkpoints)


def _tokenizer() -> CLIPTokenizer:
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder) / "tokenizer", second=False)
        tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(Path(folder) / "tokenizer", local_files_only=True)
    return tokenizer


if __name__ == "__main__":
    main()
