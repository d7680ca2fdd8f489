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
    distributed,
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
from training.pocket.distributed import DistributedGroup
from training.pocket.frozen_models import LARGE, PICTURES, STAGES, FrozenModels, open_reader
from training.pocket.run_dir import RunDir

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
    distributed.run(asked.processes, partial(_train, asked))


def _train(asked: argparse.Namespace, group: DistributedGroup) -> None:
    if asked.threads:
        torch.set_num_threads(asked.threads)
    torch.manual_seed(1)
    run_dir = RunDir.open(asked.checkpoints, asked.part, torch.device(asked.device))
    if asked.part == PICTURES:
        pictures.train(run_dir, open_reader(_tokenizer(), asked.checkpoints, run_dir.device), group)
    elif asked.part == LARGE:
        large.train(run_dir, FrozenModels.open(run_dir, asked.checkpoints, _tokenizer(), stages=(PICTURES,)))
    elif asked.part in ALONE:
        _train_alone(run_dir, asked.part)
    else:
        teach(run_dir, FrozenModels.open(run_dir, asked.checkpoints, _tokenizer()), asked.part, asked.checkpoints)


def _train_alone(run_dir: RunDir, part: str) -> None:
    match part:
        case "texts":
            texts.train(run_dir, _tokenizer())
        case "vision":
            vision.train(run_dir)
        case "upscaler":
            upscaler.train(run_dir)
        case "expansion":
            expansion.train(run_dir)
        case _:
            checkers.train(run_dir, part)


def teach(run_dir: RunDir, frozen: FrozenModels, part: str, checkpoints: Path) -> None:
    """Train what is added to the finished text encoders and UNet."""
    match part:
        case "canny" | "cpds":
            controls.train(run_dir, frozen, part)
        case "outlines":
            outlines.train(run_dir, frozen)
        case "inpaint":
            inpainting.train(run_dir, frozen)
        case "refiner":
            refiner.train(run_dir, frozen)
        case "concept":
            concept.train(run_dir, frozen)
        case _ if part in performance.MODES:
            performance.train(run_dir, frozen, performance.MODES[part])
        case _:
            image_prompts.train(run_dir, frozen, part, checkpoints)


def _tokenizer() -> CLIPTokenizer:
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder) / "tokenizer", second=False)
        tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(Path(folder) / "tokenizer", local_files_only=True)
    return tokenizer


if __name__ == "__main__":
    main()
