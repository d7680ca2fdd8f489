"""Variants: what rows are drawn with; and the store of their bases, within a budget of bytes."""

import logging
import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from pipelines.errors import InputFault
from pipelines.parts import Part
from pipelines.weights.bases import Base, InpaintFiles, Merger
from pipelines.weights.image_prompt import ImagePrompter
from pipelines.weights.image_prompters import ImagePrompters
from pipelines.weights.lora.matching import Match
from pipelines.weights.lora.reading import LoraFile, digest, read_lora
from pipelines.weights.sized_lru import SizedLru
from pipelines.weights.variant_spec import BaseKey, Changes, LoraRef, VariantKey, VariantSpec, summed

if TYPE_CHECKING:
    from pipelines.weights.family import Family

FileState = tuple[Path, int, int]  # path, time of change in ns, bytes: another state is another file

REMEMBERED_DIGESTS = 4096
TOLD = 32  # names in a report, which is sent every second

log = logging.getLogger("fooocus.weights")


@dataclass(frozen=True, slots=True)
class Fit:
    """How a file fits the family: in a sentence, and whether it was taken by force alone."""

    told: str
    forced: bool


@dataclass(frozen=True)
class Variant:
    """A base and the LoRAs that its rows add to it. Equal ones have the same base.

    adapters: none, for the store merges each set into a base of its own.
    """

    base: Base
    adapters: Changes = ()

    @property
    def key(self) -> VariantKey:
        return VariantKey(self.base.key.base, summed((*self.base.key.adapters, *self.adapters)))

    @property
    def unet(self) -> UNet2DConditionModel:
        return self.base.unet

    @property
    def text_encoders(self) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
        return self.base.text_encoders

    @property
    def controls(self) -> Mapping[Part, ControlNetModel]:
        return self.base.controls

    @property
    def head(self) -> Tensor | None:
        """Of an inpaint model (`Base`)."""
        return self.base.head

    @property
    def group(self) -> Hashable:
        """Evaluations of variants with equal groups may share a UNet call."""
        return self.base.group


class VariantStore:
    """Builds bases and keeps the ones used last. Methods may be called from any thread.

    budget_bytes: of merged tensors, control networks, models of image prompts and parsed files together, besides the
    family's own weights. The newest base stays even when it alone is larger. A base that a caller still holds is never
    broken by eviction, and is found again while it is held.
    """

    def __init__(self, family: "Family", budget_bytes: int, *, own_stream: bool = False) -> None:
        """own_stream: merge on a stream of the device's own, for which `Base.ready` waits; needs a CUDA device."""
        self._catalogue = family.catalogue
        self._merger = Merger(family, own_stream=own_stream)
        # bases, files by their sha256, and by their part the models of image prompts
        self._kept: SizedLru[VariantKey | str, Base | LoraFile | ImagePrompter] = SizedLru(budget_bytes)
        self.prompters = ImagePrompters(family, self._kept)
        self._held: WeakValueDictionary[VariantKey, Base] = WeakValueDictionary()
        self._digests: dict[FileState, str] = {}
        self._fits: dict[str, Fit] = {}  # by sha256, of files that were matched
        self._building = threading.Lock()  # one at a time: building is bound by memory, and two would need it twice

    @property
    def resident_bytes(self) -> int:
        """What the store holds besides the family's own weights."""
        return self._kept.resident_bytes

    def names(self) -> tuple[str, ...]:
        """What is kept, the base used last at the end: at most `TOLD` of them."""
        return tuple(str(key) for key in self._kept if isinstance(key, VariantKey))[-TOLD:]

    def find(self, spec: VariantSpec) -> Variant | None:
        """The variant of a spec if it is at hand, with its control networks; never reads, merges or waits for it."""
        digests = {each.path: self._digests.get(_state(each.path), "") for each in spec.loras}
        if not all(digests.values()):
            return None
        key, adapters = self._resolve(spec, digests)
        base = self._held.get(key)
        if not all(self._is_known_to_fit(digests[each.path], each) for each in spec.loras if each.scale):
            return None
        if base is None or not base.controls.keys() >= set(spec.controls):
            return None
        self._keep(base)
        return Variant(base, adapters)

    def get(self, spec: VariantSpec) -> Variant:
        """The variant of a spec with the control networks that it names; what is missing is built, which may take
        seconds.

        Raises InputFault `feature_not_supported`, with the field of the LoRA, for a file that does not fit, OSError
        for one that is not there, and WeightsFault for an inpaint model that is not there or does not fit.
        """
        variant = self.find(spec)
        if variant is not None:
            return variant
        with self._building:
            digests = {each.path: self._digest(each.path) for each in spec.loras}
            key, adapters = self._resolve(spec, digests)
            base = self._held.get(key)
            if base is None:
                sources = {digests[each.path]: each for each in spec.loras}
                base = self._merger.merge(
                    key,
                    {sha256: self._match(sha256, sources[sha256]) for sha256, _ in key.changes},
                    self._inpaint(spec.patch),
                )
            for each in spec.loras:
                if each.scale and not self._is_known_to_fit(digests[each.path], each):
                    self._match(digests[each.path], each)
            missing = [kind for kind in spec.controls if kind not in base.controls]
            for kind in missing:
                self._merger.add_control(base, kind, self._catalogue.part(kind))
            self._held[key] = base
            self._keep(base, grown=bool(missing))
            return Variant(base, adapters)

    def notes(self, spec: VariantSpec) -> tuple[str, ...]:
        """How much of each LoRA that the client named acts, in a sentence; of a spec whose variant was got."""
        named = [each for each in spec.loras if each.field]
        fits = [self._fits.get(self._digests.get(_state(each.path), "")) for each in named]
        return tuple(f"{each.field}: {fit.told}" for each, fit in zip(named, fits, strict=True) if fit is not None)

    def _is_known_to_fit(self, sha256: str, source: LoraRef) -> bool:
        fit = self._fits.get(sha256)
        return fit is not None and (source.force or not fit.forced)

    def _resolve(self, spec: VariantSpec, digests: Mapping[Path, str]) -> tuple[VariantKey, Changes]:
        """Which LoRAs of a spec its base has merged, and which are left to its rows: none, today."""
        performance, adapters = (
            summed((digests[each.path], each.scale) for each in part) for part in (spec.performance, spec.adapters)
        )
        patch = "" if spec.patch is None else self._catalogue.part(spec.patch).name
        return VariantKey(BaseKey(self._catalogue.checkpoint.name, performance, patch), adapters), ()

    def _inpaint(self, patch: Part | None) -> InpaintFiles | None:
        if patch is None:
            return None
        return InpaintFiles(self._catalogue.part(patch), self._catalogue.part("inpaint_head"))

    def _digest(self, path: Path) -> str:
        state = _state(path)
        if state not in self._digests:
            self._digests[state] = digest(path)
            if len(self._digests) > REMEMBERED_DIGESTS:
                del self._digests[next(iter(self._digests))]
        return self._digests[state]

    def _match(self, sha256: str, source: LoraRef) -> Match:
        file = self._kept.find(sha256)
        try:
            if not isinstance(file, LoraFile):
                file = read_lora(source.path)
                self._kept.put(sha256, file, {id(file): file.bytes})
            match = self._merger.targets.match(file, force=source.force)
        except InputFault as fault:
            raise InputFault(fault.type, fault.msg, source.field, fault.ctx) from fault
        if match.unmatched:
            log.warning("%s: %s", source.path.name, match)
        self._fits[sha256] = Fit(str(match), match.forced)
        if len(self._fits) > REMEMBERED_DIGESTS:
            del self._fits[next(iter(self._fits))]
        return match

    def _keep(self, base: Base, *, grown: bool = False) -> None:
        """Make a base the one used last, and its files those before it, so that its like is built from memory."""
        for sha256, _ in base.key.changes:
            self._kept.find(sha256)
        if grown or self._kept.find(base.key) is None:
            own = self._merger.own_tensors(base)
            self._kept.put(base.key, base, {id(tensor): tensor.nbytes for tensor in own})


def _state(path: Path) -> FileState:
    stat = path.stat()
    return path, stat.st_mtime_ns, stat.st_size
