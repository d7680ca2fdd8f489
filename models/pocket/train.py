"""Train one part of the pocket model: `python -m models.pocket.train PART`.

Goes on where an earlier run of the same command was interrupted. Checkpoints and logs lie outside the work tree.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from transformers import CLIPTokenizer

from models.pocket.tokenizer import write_tokenizer
from models.pocket.training import decoder, performance, pictures, texts
from models.pocket.training.session import Session

PARTS = ("decoder", "texts", "pictures", *performance.MODES)
CHECKPOINTS = Path.home() / ".cache" / "fooocus-pocket-training"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS, help="in the order to train them")
    parser.add_argument("--checkpoints", type=Path, default=CHECKPOINTS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="torch's threads on the CPU")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    torch.manual_seed(1)
    session = Session.open(asked.checkpoints, asked.part, torch.device(asked.device))
    if asked.part == "decoder":
        decoder.train(session)
    elif asked.part == "texts":
        texts.train(session, _tokenizer())
    elif asked.part == "pictures":
        pictures.train(session, _tokenizer(), asked.checkpoints / "texts" / "encoders.pt")
    else:
        performance.train(
            session,
            performance.MODES[asked.part],
            _tokenizer(),
            encoders=asked.checkpoints / "texts" / "encoders.pt",
            weights=asked.checkpoints / "pictures" / "unet.pt",
            drawings=asked.checkpoints / "pictures",
        )


def _tokenizer() -> CLIPTokenizer:
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder) / "tokenizer", second=False)
        tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(Path(folder) / "tokenizer", local_files_only=True)
    return tokenizer


if __name__ == "__main__":
    main()
