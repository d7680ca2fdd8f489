"""Files of embeddings (textual inversions): their layouts, and the vectors that prompts are encoded with."""

import hashlib
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pipelines.errors import InputFault, told_if_gone
from pipelines.prompts.embeddings import NO_SPELLINGS, Spellings, deal, token_faults
from pipelines.weights.header import parse_header
from pipelines.weights.lora.layers import READ
from pipelines.weights.lora.names import bundled_part

if TYPE_CHECKING:
    from pipelines.inputs import FoundEmbedding

MAX_BYTES = 4 * 2**20  # of a file: SDXL's have 4 to 8 KiB a vector, and a prompt has room for a few hundred
_TOO_LARGE = f"is larger than {MAX_BYTES // 2**20} MiB"
MAX_VALUE = 1e4  # of a number: vectors of words are below 1, and squares of this are far from what float32 holds

Widths = tuple[int, int]  # of the vectors that both text encoders read

# the second encoder's name: in kohya's scripts, ComfyUI and diffusers; in files of pivotal tuning, whose words are
# <s0> and <s1>; it matters only where both encoders read vectors of one width
_SECOND = frozenset({"clip_g", "text_encoders_1", "text_encoder_2"})
# for other models: by the width of what a file has alone (fooocus-facts 3.5)
_OTHERS: Mapping[int, str] = {768: "Stable Diffusion 1.5", 1024: "Stable Diffusion 2", 4096: "a T5 text encoder"}


class Unfit(Exception):
    """An embedding cannot be used: why, in words that follow its name."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What a prompt may be spelt with beside words. vectors: (count, width) float32 on the CPU, for each text encoder.

    key: names it by content.
    """

    spellings: Spellings
    vectors: tuple[Tensor, Tensor]
    key: Hashable


NO_VOCABULARY = Vocabulary(NO_SPELLINGS, (torch.empty(0, 0), torch.empty(0, 0)), ())


def read_vocabulary(embeddings: Sequence["FoundEmbedding"], widths: Widths) -> Vocabulary:
    """Read the files of embeddings; those that are optional and cannot be used stand for nothing.

    Raises InputFault with the field of the embedding that cannot be used, and FileGone for a file that is not there any
    more.
    """
    if not embeddings:
        return NO_VOCABULARY
    for fault in token_faults(found.embedding for found in embeddings):
        raise fault
    places: dict[str, range] = {}
    files: list[tuple[Tensor, Tensor]] = []
    for found in embeddings:
        try:
            with told_if_gone():
                vectors = _vectors(found, widths)
        except InputFault as fault:
            if found.optional:
                continue
            raise InputFault(fault.type, fault.msg, found.embedding.field, fault.ctx) from fault
        places |= deal(found.embedding, len(vectors[0]), sum(len(narrow) for narrow, _ in files))
        files.append(vectors)
    if not files:
        return NO_VOCABULARY
    narrow, wide = (torch.cat(each) for each in zip(*files, strict=True))
    content = hashlib.sha256(narrow.numpy().tobytes() + wide.numpy().tobytes()).hexdigest()
    return Vocabulary(Spellings(places), (narrow, wide), (content, tuple(places.items())))


def read_embedding(path: Path, widths: Widths) -> tuple[Tensor, Tensor]:
    """Read a safetensors file in the layout of kohya (`clip_l`, `clip_g`), of pivotal tuning (`text_encoders_0`,
    `text_encoders_1`), or with one tensor, such as `emb_params` or one that is named by its token, in which the vectors
    of both encoders stand side by side. Gives (count, width) float32 for each text encoder, equally many.

    Which encoder a tensor is for is told by its width, whatever it is called. Raises InputFault `feature_not_supported`
    for what is not safetensors (pickles are never opened), is larger than 4 MiB, is for other encoders, or has numbers
    that are not finite.
    """
    try:
        return _read(path, widths)
    except Unfit as fault:
        raise InputFault("feature_not_supported", f"This embedding {fault}.") from fault


def read_bundled(path: Path, name: str, widths: Widths) -> tuple[Tensor, Tensor]:
    """The same of an embedding that a LoRA's file brings, of the tensors `bundle_emb.NAME.…`: `clip_l` and `clip_g`, or
    one such as `string_to_param.*`. Raises InputFault as `read_embedding`, which names it."""
    try:
        with safe_open(path, framework="pt") as file:
            parts = {tensor: bundled_part(tensor) for tensor in file.keys()}  # noqa: SIM118 (it is no mapping)
            own = {part[1]: file.get_tensor(tensor) for tensor, part in parts.items() if part and part[0] == name}
            return vectors_of(own, widths)
    except (Unfit, SafetensorError) as fault:
        told = str(fault) if isinstance(fault, Unfit) else "cannot be read"
        raise InputFault(
            "feature_not_supported", f"This LoRA cannot be applied as a whole: {brings(name, told)}."
        ) from fault


def vectors_of(tensors: Mapping[str, Tensor], widths: Widths) -> tuple[Tensor, Tensor]:
    """(count, width) float32 for each text encoder of an embedding's tensors. Raises Unfit."""
    _require_few(tensors)
    if sum(tensor.nbytes for tensor in tensors.values()) > MAX_BYTES:
        raise Unfit(_TOO_LARGE)
    return _sides({name: _flat(name, tensor) for name, tensor in tensors.items()}, widths)


def brings(name: str, why: object) -> str:
    """A clause: what is wrong with an embedding that a LoRA brings. why: as of `Unfit`."""
    return f"it brings the embedding {name[:64]} (bundle_emb), which {why}"


def width_of(encoder: nn.Module) -> int:
    """Of the vectors that a text encoder reads."""
    return next(each.embedding_dim for each in encoder.modules() if isinstance(each, nn.Embedding))


def _vectors(found: "FoundEmbedding", widths: Widths) -> tuple[Tensor, Tensor]:
    return read_bundled(found.path, found.bundled, widths) if found.bundled else read_embedding(found.path, widths)


def _read(path: Path, widths: Widths) -> tuple[Tensor, Tensor]:
    if path.stat().st_size > MAX_BYTES:
        raise Unfit(_TOO_LARGE)
    try:
        header = parse_header(path)
        _require_few(header.tensors)
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in header.tensors}
    except ValueError as fault:  # which tells what it is instead
        raise Unfit(str(fault)) from fault
    except SafetensorError as fault:
        raise Unfit("cannot be read as safetensors: its header is damaged") from fault
    return vectors_of(tensors, widths)


def _require_few(tensors: Collection[str]) -> None:
    if len(tensors) not in (1, 2):
        few = ", ".join(name[:200] for name in list(tensors)[:3])
        raise Unfit(f"is none: it has {len(tensors)} tensors{few and f', such as {few}'}")


def _flat(name: str, tensor: Tensor) -> Tensor:
    """(count, width) float32 of a tensor that anybody may have made."""
    if tensor.dtype not in READ or tensor.ndim not in (1, 2) or not tensor.numel():
        raise Unfit(f"has a tensor that holds no vectors: {name[:200]} of shape {tuple(tensor.shape)}")
    vectors = tensor.float().reshape(-1, tensor.shape[-1])
    if not vectors.abs().le(MAX_VALUE).all():  # NaN is not, either
        raise Unfit(f"has numbers that are not finite, or larger than {MAX_VALUE:g}, in {name[:200]}")
    return vectors


def _sides(tensors: Mapping[str, Tensor], widths: Widths) -> tuple[Tensor, Tensor]:
    """The vectors for each text encoder."""
    if len(tensors) == 1:
        ((name, both),) = tensors.items()
        if both.shape[1] == sum(widths):
            return both[:, : widths[0]].contiguous(), both[:, widths[0] :].contiguous()
        raise _other({name: both.shape[1]}, widths)
    sides = [tensors[name] for name in sorted(tensors, key=_SECOND.__contains__)]
    if (sides[0].shape[1], sides[1].shape[1]) != widths:
        sides.reverse()
    if (sides[0].shape[1], sides[1].shape[1]) != widths:
        raise _other({name: tensor.shape[1] for name, tensor in tensors.items()}, widths)
    if len(sides[0]) != len(sides[1]):
        raise Unfit(f"has {len(sides[0])} vectors for the first text encoder and {len(sides[1])} for the second")
    return sides[0], sides[1]


def _other(found: Mapping[str, int], widths: Widths) -> Unfit:
    alone = next(iter(found.values())) if len(found) == 1 else 0
    made = f"is for {_OTHERS[alone]}" if alone in _OTHERS else "does not fit the model"
    has = " and ".join(f"{width} numbers a vector in {name[:200]}" for name, width in found.items())
    return Unfit(f"{made}: it has {has}, and both text encoders are needed, with {widths[0]} and {widths[1]}")
