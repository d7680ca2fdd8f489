"""The refiner of a family: how often it is loaded."""

import gc
import weakref

from pipelines.weights.family import Family
from pipelines.weights.image_prompters import ImagePrompters
from pipelines.weights.refiners import Refiners
from pipelines.weights.sized_lru import SizedLru


class Thing:
    """Fills a cache."""


def test_one_that_pictures_are_drawn_with_is_not_loaded_again_when_others_needed_its_room(
    pocket_family: Family,
) -> None:
    kept: SizedLru[object, object] = SizedLru(1)
    refiners = Refiners(pocket_family, kept)
    assert refiners.find() is None
    held = refiners.get("refiner_model")
    kept.put("others", Thing(), {0: 10})
    assert kept.find("refiner") is None
    assert refiners.get("refiner_model") is held
    kept.put("others", Thing(), {0: 10})
    assert refiners.find() is held
    gone = weakref.ref(held)
    kept.put("others", Thing(), {0: 10})
    del held
    gc.collect()
    assert refiners.find() is gone() is None


def test_nor_are_the_models_of_image_prompts(pocket_family: Family) -> None:
    kept: SizedLru[object, object] = SizedLru(1)
    prompters = ImagePrompters(pocket_family, kept)
    held = prompters.get(["image_prompt"])
    kept.put("others", Thing(), {0: 10})
    assert prompters.get(["image_prompt"]) == held
