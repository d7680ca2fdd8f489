"""Which embeddings a LoRA's file brings with it (`bundle_emb`), by the names of its tensors. Free of torch."""

from pathlib import Path

from pipelines.prompts.embeddings import can_stand, written
from pipelines.weights.header import LENGTH, MOST_BYTES, parse_header
from pipelines.weights.lora.names import BUNDLED, bundled_part

MAX_BUNDLED = 16  # of a file: each is a word that all prompts are looked through for


def bundled_names(path: Path) -> tuple[str, ...]:
    """The names of the embeddings that a file brings and that prompts can name, in its order.

    None of a file that is no whole safetensors file or is not there: whoever reads the LoRA says so.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH), "little")
            if length > MOST_BYTES or BUNDLED.encode() not in file.read(length):
                return ()  # which most are, and looking through all names takes ten times as long
        names = parse_header(path).tensors
    except (OSError, ValueError):
        return ()
    found = dict.fromkeys(part[0] for part in map(bundled_part, names) if part is not None)
    return tuple(name for name in found if is_nameable(name))[:MAX_BUNDLED]


def is_nameable(name: str) -> bool:
    """Whether prompts can hold the name of an embedding."""
    return can_stand(written(name))
