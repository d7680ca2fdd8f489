"""The image-prompt models of a family, loaded when a request first needs them."""

import threading
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from transformers import CLIPVisionModelWithProjection

from pipelines.parts import Part
from pipelines.weights.image_prompt import ImagePrompter, read_adapter, read_negative
from pipelines.weights.vision_tower import read_tower

if TYPE_CHECKING:
    from pipelines.weights.family import Family


class ImagePrompters:
    """What was loaded stays: a family has two adapters and one tower. Methods may be called from any thread."""

    def __init__(self, family: "Family") -> None:
        self._family = family
        self._loading = threading.Lock()
        self._tower: CLIPVisionModelWithProjection | None = None
        self._loaded: dict[Part, ImagePrompter] = {}

    def find(self, adapters: Collection[Part]) -> Mapping[Part, ImagePrompter] | None:
        """Those of some adapters if all are at hand; never reads or waits."""
        found = {part: self._loaded[part] for part in adapters if part in self._loaded}
        return found if len(found) == len(set(adapters)) else None

    def get(self, adapters: Collection[Part]) -> Mapping[Part, ImagePrompter]:
        """Those of some adapters; what is missing is loaded, in the dtype of the UNet, which may take seconds.

        Raises WeightsFault where the family lacks one, or its files do not fit.
        """
        with self._loading:
            return {part: self._loaded.get(part) or self._load(part) for part in adapters}

    def _load(self, part: Part) -> ImagePrompter:
        family = self._family
        catalogue, how = family.catalogue, (family.device, family.dtype)
        if self._tower is None:
            self._tower = read_tower(catalogue.part("vision"), *how)
        adapter = read_adapter(catalogue.part(part), family.unet, self._tower.config.hidden_size, *how)
        negative = read_negative(catalogue.part("image_prompt_negative"), adapter, *how)
        self._loaded[part] = ImagePrompter(self._tower, adapter, negative)
        return self._loaded[part]
