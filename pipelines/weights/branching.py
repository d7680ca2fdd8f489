"""Branching: which sets of LoRAs rows carry as low-rank branches, and which are merged into a base of their own."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from pipelines.unet.branches import LoraAdapter, set_bytes
from pipelines.weights.lora.changes import LowRank, upload
from pipelines.weights.lora.matching import Match
from pipelines.weights.lora.names import Place
from pipelines.weights.variant_spec import LoraRef, VariantKey

MAX_RANK = 128  # of all LoRAs of a request together
LATELY = 32  # requests
SHARED = 16  # of these: from so many on a set is merged

Asked = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class BranchKey:
    """Names a LoRA's branch, by the sha256 of its file."""

    sha256: str


@dataclass(frozen=True, slots=True)
class TextKey:
    """Names text encoders with LoRAs merged in. changed: what of them."""

    changed: VariantKey


@dataclass(frozen=True, eq=False)
class Branch:
    """A LoRA as rows carry it.

    adapter: its change of the UNet. of_text: whether it changes a text encoder too, which is merged. refused: for
    people, why rows cannot carry it, in words that follow its name; empty where they can.
    """

    adapter: LoraAdapter
    of_text: bool
    refused: str = ""

    @property
    def sizes(self) -> Mapping[int, int]:
        """Bytes of its tensors, by their identity."""
        sides = (side for layer in self.adapter.layers.values() for side in (layer.down, layer.up))
        return {id(side): side.nbytes for side in sides}


class Uses:
    """How often each set of LoRAs was asked for by the last `LATELY` requests. A set that `SHARED` of them had in
    common has rows enough for calls of its own, and is cheaper merged; the others fill calls better together."""

    def __init__(self) -> None:
        self._asked: deque[Asked] = deque()
        self._counts: Counter[Asked] = Counter()

    def note(self, loras: Sequence[LoraRef]) -> None:
        """A request asks for these, or for none."""
        asked = _asked(loras)
        self._asked.append(asked)
        self._counts[asked] += 1
        if len(self._asked) > LATELY:
            oldest = self._asked.popleft()
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]

    def shared(self, loras: Sequence[LoraRef]) -> bool:
        """Whether many of the last requests asked for just these."""
        return self._counts[_asked(loras)] >= SHARED


def branch_of(match: Match, unet: UNet2DConditionModel, home: torch.device) -> Branch:
    """How rows carry a file that fits a UNet. home: of its weights."""
    of_text = any(component != "unet" for component, _ in match.layers)
    ours: dict[Place, LowRank] = {}
    for place, layer in match.layers.items():
        if place[0] != "unet":
            continue
        module, _, kind = place[1].rpartition(".")
        if not isinstance(layer, LowRank) or kind != "weight":
            return Branch(LoraAdapter({}), of_text, f"changes {module} by more than two matrices")
        ours[place] = layer
    dtype = unet.conv_in.weight.dtype  # asking diffusers for it walks all modules
    layers = {
        place.removesuffix(".weight"): _shaped(layer, unet.get_parameter(place), dtype)
        for (_, place), layer in upload(ours, home).items()
        if isinstance(layer, LowRank)  # which it was before
    }
    return Branch(LoraAdapter(layers), of_text)


def of_texts(match: Match) -> Match:
    """What of a file changes text encoders."""
    return replace(match, layers={place: layer for place, layer in match.layers.items() if place[0] != "unet"})


def refusal(
    branches: Mapping[str, Branch], names: Mapping[str, str], call_bytes: int, *, rounded: bool = False
) -> str | None:
    """For people, why the LoRAs of a request cannot be carried together; None where they can. names: what the request
    calls them. call_bytes: what the LoRAs of one call may take. rounded: whether its ranks are rounded up."""
    for sha256, branch in branches.items():
        if branch.refused:
            return f"{names[sha256]} {branch.refused}"
    rank = sum(branch.adapter.rank for branch in branches.values())
    if rank > MAX_RANK:
        return f"their ranks add up to {rank}, and rows carry up to {MAX_RANK}"
    size = set_bytes((branch.adapter for branch in branches.values()), rounded=rounded)
    if size > call_bytes:
        return f"they have {size / 2**20:,.1f} MiB, and a call may have {call_bytes / 2**20:,.1f} MiB of LoRAs"
    return None


def _shaped(layer: LowRank, weight: Tensor, dtype: torch.dtype) -> LowRank:
    """The same change with its factor in `down`, and sides of as many dimensions as the weight that it changes."""
    rank = len(layer.down)
    down = (layer.down.to(torch.float32) * layer.factor).to(dtype).reshape(rank, *weight.shape[1:])
    up = layer.up.to(dtype).reshape(len(weight), rank, *[1] * (weight.ndim - 2))
    return LowRank(down, up)


def _asked(loras: Sequence[LoraRef]) -> Asked:
    return tuple(sorted((str(each.path), each.scale) for each in loras if each.scale))
