"""Variants: what rows are drawn with; and the store of their bases, within a budget of bytes."""

import logging
import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from pipelines.errors import InputFault, told_if_gone
from pipelines.events import Note
from pipelines.parts import Part
from pipelines.unet.branches import RowLora
from pipelines.weights.at_hand import AtHand, Weights
from pipelines.weights.bases import Base, InpaintFiles, Merger
from pipelines.weights.branching import Branch, BranchKey, TextKey, Uses, branch_of, of_texts, refusal
from pipelines.weights.image_prompt import ImagePrompter
from pipelines.weights.image_prompters import ImagePrompters
from pipelines.weights.lora.matching import Match
from pipelines.weights.lora.reading import LoraFile, digest, read_lora
from pipelines.weights.refiners import Refiner, Refiners
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
    """How a file fits the family: in a sentence, as a whole, and whether it was taken by force alone."""

    told: str
    whole: bool
    forced: bool


@dataclass(slots=True)
class CacheCounts:
    """How often a request needed a base, or a LoRA that its rows carry, which was at hand, and which was not."""

    bases_found: int = 0
    bases_built: int = 0
    adapters_found: int = 0
    adapters_built: int = 0


@dataclass(frozen=True)
class Variant:
    """A base and the LoRAs that its rows add to it. Equal ones have the same base.

    adapters: what the base has not merged. branches: of these, by sha256. texts: what has the text encoders with all
    LoRAs; None where the base's are those. note: for people, why rows do not carry the LoRAs; empty where they do or
    need not.
    """

    base: Base
    adapters: Changes = ()
    branches: Mapping[str, Branch] = field(default_factory=dict, compare=False)
    texts: Base | None = field(default=None, compare=False)
    note: str = field(default="", compare=False)

    @property
    def key(self) -> VariantKey:
        return VariantKey(self.base.key.base, summed((*self.base.key.adapters, *self.adapters)))

    @property
    def unet(self) -> UNet2DConditionModel:
        return self.base.unet

    @property
    def text_encoders(self) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
        return self._texts.text_encoders

    @property
    def loras(self) -> tuple[RowLora, ...]:
        """What rows add to the UNet. A LoRA of text encoders alone is not among it."""
        carried = ((self.branches[sha256].adapter, scale) for sha256, scale in self.adapters)
        return tuple(RowLora(adapter, scale) for adapter, scale in carried if adapter.layers)

    @property
    def text_group(self) -> Hashable:
        """Texts that variants with equal ones encode are the same."""
        return self._texts.text_group

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

    def ready(self) -> None:
        """As `Base.ready`, of all that there is."""
        for base in {self.base, self._texts}:
            base.ready()

    @property
    def _texts(self) -> Base:
        return self.base if self.texts is None else self.texts


@dataclass(frozen=True)
class _Parts:
    """Of what a variant is made. key: of its base. The rest is the variant's."""

    key: VariantKey
    adapters: Changes = ()
    branches: Mapping[str, Branch] = field(default_factory=dict)
    note: str = ""

    @property
    def texts(self) -> TextKey | None:
        """Of its text encoders; None where the base has them."""
        changed = tuple(change for change in self.adapters if self.branches[change[0]].of_text)
        if not changed:
            return None
        return TextKey(VariantKey(BaseKey(self.key.base.checkpoint, self.key.base.performance), changed))


class VariantStore:
    """Builds bases and keeps the ones used last. Methods may be called from any thread.

    budget_bytes: of merged tensors, LoRAs that rows carry, control networks, models of image prompts, a refiner and
    parsed files together, besides the family's own weights. The newest base stays even when it alone is larger. A base
    that a caller still holds is never broken by eviction, and is found again while it is held; so are LoRAs that rows
    carry.
    """

    def __init__(
        self,
        family: "Family",
        budget_bytes: int,
        *,
        own_stream: bool = False,
        branch_bytes: int | None = None,
        rounded: bool = False,
    ) -> None:
        """own_stream: merge on a stream of the device's own, for which `Base.ready` waits; needs a CUDA device.
        branch_bytes: what the LoRAs of one call may take; None merges all sets. rounded: whether their ranks are
        rounded up there."""
        self._catalogue = family.catalogue
        self._merger = Merger(family, own_stream=own_stream)
        # bases, text encoders, branches, files by their sha256, by their part image prompters and refiner
        self._kept: SizedLru[Hashable, Base | Branch | LoraFile | ImagePrompter | Refiner] = SizedLru(budget_bytes)
        self.prompters, self.refiners = ImagePrompters(family, self._kept), Refiners(family, self._kept)
        self._unet, self._home, self._uses = family.unet, family.home, Uses()
        self._branch_bytes, self._rounded = branch_bytes, rounded
        self._digests: dict[FileState, str] = {}
        self._at_hand = AtHand()
        self._fits: dict[str, Fit] = {}  # by sha256, of files that were matched
        self.counts = CacheCounts()
        self._counting = threading.Lock()
        self._building = threading.Lock()  # one at a time: building is bound by memory, and two would need it twice

    @property
    def resident_bytes(self) -> int:
        """What the store holds besides the family's own weights."""
        return self._kept.resident_bytes

    def names(self) -> tuple[str, ...]:
        """What is kept, the base used last at the end: at most `TOLD` of them."""
        return tuple(str(key) for key in self._kept if isinstance(key, VariantKey))[-TOLD:]

    def note_drawn(self, weights: Weights, variant: Variant) -> None:
        """A drawing that whoever routes requests names so has this variant."""
        keys: list[Hashable] = [variant.base.key, *(BranchKey(sha256) for sha256, _ in variant.adapters)]
        if variant.texts is not None:
            keys.append(TextKey(variant.texts.key))
        self._at_hand.note(weights, keys)

    def holds(self) -> tuple[Weights, ...]:
        """What of that is kept still, the last at the end: at most `TOLD` of them."""
        return self._at_hand.among(frozenset(self._kept), TOLD)

    def note_request(self, spec: VariantSpec) -> None:
        """A request will be drawn with a spec, which counts for whether its LoRAs are merged (`Uses`)."""
        with self._counting:
            self._uses.note(spec.adapters)

    def note_found(self, variant: Variant) -> None:
        """A request is drawn with what `find` found."""
        self._count(CacheCounts(bases_found=1, adapters_found=len(variant.branches)))

    def _count(self, more: CacheCounts) -> None:
        with self._counting:
            for name in CacheCounts.__slots__:
                setattr(self.counts, name, getattr(self.counts, name) + getattr(more, name))

    def find(self, spec: VariantSpec) -> Variant | None:
        """The variant of a spec if it is at hand, with its control networks; never reads, merges or waits for it.

        Raises FileGone as `get`."""
        digests = {each.path: self._digests.get(_state(each.path), "") for each in spec.loras}
        if not all(digests.values()):
            return None
        if not all(self._is_known_to_fit(digests[each.path], each) for each in spec.loras if each.scale):
            return None
        key = self._key(spec, digests)
        branches = {sha256: self._branch(sha256) for sha256, _ in self._carried(spec, key)}
        known = {sha256: branch for sha256, branch in branches.items() if branch is not None}
        if len(known) < len(branches):
            return None
        parts = self._parts(key, known, _names(spec, digests))
        base, texts = self._base(parts.key), None if parts.texts is None else self._base(parts.texts)
        if base is None or not base.controls.keys() >= set(spec.controls) or (texts is None) != (parts.texts is None):
            return None
        return Variant(base, parts.adapters, parts.branches, texts, parts.note)

    def get(self, spec: VariantSpec) -> Variant:
        """The variant of a spec with the control networks that it names; what is missing is built, which may take
        seconds.

        Raises InputFault `feature_not_supported`, with the field of the LoRA, for a file that does not fit, FileGone
        for one that is not there any more, and WeightsFault for an inpaint model that is not there or does not fit.
        """
        variant = self.find(spec)
        if variant is not None:
            self.note_found(variant)
            return variant
        with self._building:
            digests = {each.path: self._digest(each.path) for each in spec.loras}
            forced_first = sorted(spec.loras, key=lambda each: not each.force)
            sources = {digests[each.path]: each for each in forced_first if each.scale}
            key = self._key(spec, digests)
            carried = {sha256: self._branch(sha256) for sha256, _ in self._carried(spec, key)}
            missed = [sha256 for sha256, branch in carried.items() if branch is None]
            parts = self._parts(
                key,
                {sha256: branch or self._make_branch(sha256, sources[sha256]) for sha256, branch in carried.items()},
                _names(spec, digests),
            )
            known = self._base(parts.key)
            found, built = (1, 0) if known else (0, 1)
            self._count(CacheCounts(found, built, len(carried) - len(missed), len(missed)))
            base = known or self._merger.merge(parts.key, self._matches(parts.key, sources), self._inpaint(spec.patch))
            for each in spec.loras:
                if each.scale and not self._is_known_to_fit(digests[each.path], each):
                    self._match(digests[each.path], each)
            missing = [kind for kind in spec.controls if kind not in base.controls]
            for kind in missing:
                self._merger.add_control(base, kind, self._catalogue.part(kind))
            if known is None or missing:
                self._keep(parts.key, base)
            texts = None if parts.texts is None else self._base(parts.texts) or self._make_texts(parts.texts, sources)
            return Variant(base, parts.adapters, parts.branches, texts, parts.note)

    def notes(self, spec: VariantSpec) -> tuple[Note, ...]:
        """How much of each LoRA that the client named acts, as a warning where not all does; of a spec whose variant
        was got."""
        named = [each for each in spec.adapters if each.field]
        fits = [self._fits.get(self._digests.get(_state(each.path), "")) for each in named]
        return tuple(
            Note(f"{each.field}: {fit.told}", "INFO" if fit.whole else "WARNING")
            for each, fit in zip(named, fits, strict=True)
            if fit is not None
        )

    def _is_known_to_fit(self, sha256: str, source: LoraRef) -> bool:
        fit = self._fits.get(sha256)
        return fit is not None and (source.force or not fit.forced)

    def _key(self, spec: VariantSpec, digests: Mapping[Path, str]) -> VariantKey:
        """Of a spec's base, were all merged."""
        performance, adapters = (
            summed((digests[each.path], each.scale) for each in part) for part in (spec.performance, spec.adapters)
        )
        patch = "" if spec.patch is None else self._catalogue.part(spec.patch).name
        return VariantKey(BaseKey(self._catalogue.checkpoint.name, performance, patch), adapters)

    def _carried(self, spec: VariantSpec, key: VariantKey) -> Changes:
        """What rows are to carry, where they can."""
        return () if self._branch_bytes is None or self._uses.shared(spec.adapters) else key.adapters

    def _parts(self, key: VariantKey, branches: Mapping[str, Branch], names: Mapping[str, str]) -> _Parts:
        """branches: of what rows are to carry, by sha256. names: likewise, for people."""
        if self._branch_bytes is None or not branches:
            return _Parts(key)
        refused = refusal(branches, names, self._branch_bytes, rounded=self._rounded)
        if refused is not None:
            return _Parts(key, note=f"The LoRAs are merged into weights of their own, for {refused}.")
        return _Parts(VariantKey(key.base), key.adapters, branches)

    def _base(self, key: VariantKey | TextKey) -> Base | None:
        """What is at hand or still held, now used last."""
        base = self._kept.recall(key)
        if not isinstance(base, Base):
            return None
        self._use_files_of(base)
        self._kept.find(key)
        return base

    def _branch(self, sha256: str) -> Branch | None:
        """The same of a branch."""
        branch = self._kept.recall(BranchKey(sha256))
        return branch if isinstance(branch, Branch) else None

    def _make_branch(self, sha256: str, source: LoraRef) -> Branch:
        branch = branch_of(self._match(sha256, source), self._unet, self._home)
        self._kept.put(BranchKey(sha256), branch, branch.sizes)
        return branch

    def _make_texts(self, key: TextKey, sources: Mapping[str, LoraRef]) -> Base:
        """A base of which only the text encoders have anything merged."""
        matches = {sha256: of_texts(match) for sha256, match in self._matches(key.changed, sources).items()}
        base = self._merger.merge(key.changed, matches)
        self._keep(key, base)
        return base

    def _matches(self, key: VariantKey, sources: Mapping[str, LoraRef]) -> Mapping[str, Match]:
        return {sha256: self._match(sha256, sources[sha256]) for sha256, _ in key.changes}

    def _inpaint(self, patch: Part | None) -> InpaintFiles | None:
        if patch is None:
            return None
        return InpaintFiles(self._catalogue.part(patch), self._catalogue.part("inpaint_head"))

    def _digest(self, path: Path) -> str:
        state = _state(path)
        if state not in self._digests:
            with told_if_gone():
                self._digests[state] = digest(path)
            if len(self._digests) > REMEMBERED_DIGESTS:
                del self._digests[next(iter(self._digests))]
        return self._digests[state]

    def _match(self, sha256: str, source: LoraRef) -> Match:
        file = self._kept.find(sha256)
        try:
            if not isinstance(file, LoraFile):
                with told_if_gone():
                    file = read_lora(source.path)
                self._kept.put(sha256, file, {id(file): file.bytes})
            match = self._merger.targets.match(file, force=source.force)
        except InputFault as fault:
            raise InputFault(fault.type, fault.msg, source.field, fault.ctx) from fault
        if match.unmatched:
            log.warning("%s: %s", source.path.name, match)
        self._fits[sha256] = Fit(str(match), not match.unmatched, match.forced)
        if len(self._fits) > REMEMBERED_DIGESTS:
            del self._fits[next(iter(self._fits))]
        return match

    def _keep(self, key: VariantKey | TextKey, base: Base) -> None:
        """What is new, or has grown."""
        self._use_files_of(base)
        self._kept.put(key, base, {id(tensor): tensor.nbytes for tensor in self._merger.own_tensors(base)})

    def _use_files_of(self, base: Base) -> None:
        """Make them those used last before it, so that its like is built from memory."""
        for sha256, _ in base.key.changes:
            self._kept.find(sha256)


def _names(spec: VariantSpec, digests: Mapping[Path, str]) -> Mapping[str, str]:
    """What a request calls its LoRAs, by their sha256."""
    return {digests[each.path]: each.field or each.path.name for each in spec.adapters}


def _state(path: Path) -> FileState:
    with told_if_gone():
        stat = path.stat()
    return path, stat.st_mtime_ns, stat.st_size
