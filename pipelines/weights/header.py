"""The header of a safetensors file, read without any tensor: what is in it, and whether the file is whole."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import WeightsFault

LENGTH = 8  # bytes at the start: how long the header is, little endian
MOST_BYTES = 100 * 2**20  # of a header, as safetensors has it
NO_HEADER = "cannot be read as safetensors"
_PICKLES = (b"PK\x03\x04", b"\x80")  # how torch's files begin, new and old
_OTHERS = ((b"GGUF", "it is a GGUF file"), (b"<", "it is a page of text, such as a site that asks to log in sends"))


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a header tells it. dtype: in safetensors' words, such as `F16` or `F8_E4M3`."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Header:
    """The header of a safetensors file: its tensors by name, and what it says of itself.

    digest: sha256 of its bytes, in hex: of names, dtypes, shapes and places of all tensors.
    """

    file: str
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]
    digest: str = ""


def read_header(path: Path) -> Header:
    """Read the header of a safetensors file. Raises WeightsFault, in one sentence, for what is none or is cut short."""
    try:
        return parse_header(path)
    except OSError as fault:
        raise WeightsFault(f"{path} {NO_HEADER}: {fault}") from fault
    except ValueError as fault:
        raise WeightsFault(f"{path} {fault}.") from fault


def parse_header(path: Path) -> Header:
    """As `read_header`. Raises OSError, and ValueError in words that follow the file's name."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start, brace = file.read(LENGTH), file.read(1)
        length = int.from_bytes(start, "little")
        if length > MOST_BYTES or len(start) < LENGTH or brace != b"{":
            raise ValueError(_no_header(start, size, length))
        if size < LENGTH + length:
            raise ValueError(f"is cut short: its header alone has {length} bytes, the file {size}")
        content = brace + file.read(length - 1)
    try:
        told = json.loads(content, object_pairs_hook=_once)
        metadata = told.pop("__metadata__", None) or {}
        tensors = {
            name: StoredTensor(str(each["dtype"]), tuple(map(int, each["shape"]))) for name, each in told.items()
        }
        end = LENGTH + length + max((int(each["data_offsets"][1]) for each in told.values()), default=0)
        spelt = {str(key): str(value) for key, value in metadata.items()}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as fault:
        raise ValueError(f"{NO_HEADER}: its header is damaged ({fault})") from fault
    if size < end:
        raise ValueError(f"is cut short: it has {size} bytes of {end}")
    if size > end:
        raise ValueError(f"{NO_HEADER}: it has {size - end} bytes behind its last tensor")
    return Header(path.name, tensors, spelt, hashlib.sha256(content).hexdigest())


def _no_header(start: bytes, size: int, length: int) -> str:
    if size == 0:
        return f"{NO_HEADER}: it is empty and does not begin like one"
    if start.startswith(_PICKLES):
        return f"{NO_HEADER}: it is a pickle or an archive, which can hold code"
    for beginning, told in _OTHERS:
        if start.startswith(beginning):
            return f"{NO_HEADER}: {told}, and does not begin like one"
    if LENGTH <= size < LENGTH + length <= LENGTH + MOST_BYTES:
        return f"is cut short: its header alone has {length} bytes, the file {size}"
    damaged = len(start) == LENGTH and length <= MOST_BYTES
    return f"{NO_HEADER}: {'its header is damaged' if damaged else 'it does not begin like one'}"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a name twice")
    return found
