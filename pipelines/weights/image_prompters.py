"""The image-prompt models of a family, loaded when a request first needs them."""

import threading
import weakref
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from transformers import CLIPVisionModelWithProjection

from pipelines.parts import Part
from pipelines.weights.image_prompt import ImagePrompter, read_adapter, read_negative
from pipelines.weights.sized_lru import SizedLru
from pipelines.weights.vision_tower import read_tower

if TYPE_CHECKING:
    from pipelines.weights.family import Family


class ImagePrompters:
    """Keeps what was used last, in the cache that it is given. Methods may be called from any thread."""

    def __init__(self, family: "Family", kept: SizedLru[Any, Any]) -> None:
        """kept: may have other things under keys that are no parts."""
        self._family, self._kept = family, kept
        self._loading = threading.Lock()
        self._tower: weakref.ref[CLIPVisionModelWithProjection] | None = None

    def find(self, adapters: Collection[Part]) -> Mapping[Part, ImagePrompter] | None:
        """Those of some adapters if all are at hand; never reads or waits."""
        found = {part: prompter for part in adapters if (prompter := self._kept.find(part)) is not None}
        return found if len(found) == len(set(adapters)) else None

    def get(self, adapters: Collection[Part]) -> Mapping[Part, ImagePrompter]:
        """Those of some adapters; what is missing is loaded, in the dtype of the UNet, which may take seconds.

        Raises WeightsFault where the family lacks one, or its files do not fit.
        """
        with self._loading:
            return {part: self._kept.recall(part) or self._load(part) for part in adapters}

    def _load(self, part: Part) -> ImagePrompter:
        family = self._family
        catalogue, home = family.catalogue, family.home
        tower = self._tower() if self._tower is not None else None  # which another kind may hold
        if tower is None:
            tower = read_tower(catalogue.part("vision"), home, family.dtype)
            self._tower = weakref.ref(tower)
        adapter = read_adapter(catalogue.part(part), family.unet, tower.config.hidden_size, home, family.dtype)
        path = catalogue.part("image_prompt_negative")
        prompter = ImagePrompter(tower, adapter, read_negative(path, adapter, family.device, family.dtype))
        every = (*tower.parameters(), *adapter.parameters())
        self._kept.put(part, prompter, {id(tensor): tensor.nbytes for tensor in every})
        return prompter
