"""Train one part of the pocket model: `python -m training.pocket.train PART`.

Goes on where an earlier run of the same command was interrupted. Checkpoints and logs lie outside the work tree. What a
part needs and was not trained there is the shipped one; but `face_prompt` must find `image_prompt` there, and
`first_guesses` `extreme_speed`.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import torch
from transformers import CLIPTokenizer

from models.pocket.tokenizer import write_tokenizer
from training.pocket import distributed
from training.pocket.distributed import DistributedGroup
from training.pocket.frozen_models import PICTURES
from training.pocket.parts import PARTS, Task
from training.pocket.run_dir import RunDir

CHECKPOINTS = Path.home() / ".cache" / "fooocus-pocket-training"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS, help="in this order, `large` where there is a GPU")
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
    part = PARTS[asked.part]
    for need in part.needs if group.leads else ():
        here = (asked.checkpoints / need / PARTS[need].leaves).is_file()
        run_dir.console.print(f"with {need} as {'trained here' if here else 'shipped'}", highlight=False)
    part.train(Task(asked.part, run_dir, asked.checkpoints, _tokenizer(), group))


def _tokenizer() -> CLIPTokenizer:
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder) / "tokenizer", second=False)
        tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(Path(folder) / "tokenizer", local_files_only=True)
    return tokenizer


if __name__ == "__main__":
    main()
