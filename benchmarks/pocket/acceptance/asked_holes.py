"""Gate 7 as requests have it: holes that the inpaint endpoint's own defaults draw, about 1024 x 1024 in 8 steps."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmarks.pocket.acceptance.defaults import pictures
from benchmarks.pocket.acceptance.inpaint import REACH, held_out_holes, share_changed
from benchmarks.pocket.acceptance.metric import Metric
from benchmarks.pocket.acceptance.prompts import WANTED
from benchmarks.pocket.world.exam import accuracy, held_out
from gateway.endpoints.fooocus import FooocusInpaintInput
from pipelines.drawing import Drawer
from pipelines.weights.family import Family

NOWHERE = "data:image/png;base64,"  # the pictures are given decoded
WHOLE: Mapping[str, Any] = MappingProxyType({"override_inpaint_options": True, "inpaint_respective_field": 1.0})
KINDS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"defaults": {}, "no styles": {"styles": []}, "no styles, the whole picture": {"styles": [], **WHOLE}}
)


def shares(drawer: Drawer, family: Family, kind: str, count: int) -> tuple[dict[str, float], float]:
    """In which of the holes an aspect is as the caption says, and the most that changed far from one.

    kind: a key of `KINDS`.
    """
    scenes, said = held_out(count)
    before, masks = held_out_holes(count)
    given = {"inpaint_image_url": NOWHERE, "mask_image_url": NOWHERE, **KINDS[kind]}
    specs = [
        FooocusInpaintInput.model_validate({"prompt": words, "seed": seed, **given}).spec()
        for seed, words in enumerate(said)
    ]
    uploads = [(picture, np.repeat(mask[:, :, None], 3, axis=2)) for picture, mask in zip(before, masks, strict=True)]
    drawn = pictures(drawer, family, specs, uploads)
    return accuracy(scenes, drawn), max(share_changed(*each) for each in zip(drawn, before, masks, strict=True))


def shows(drawer: Drawer, family: Family, count: int) -> list[Metric]:
    metrics = []
    for kind in KINDS:
        found, changed = shares(drawer, family, kind, count)
        metrics += [Metric(f"a request's hole, {kind}: {name}", found[name], WANTED[name]) for name in WANTED]
        outside = f"a request's hole, {kind}: share changed more than {REACH} px outside"
        metrics.append(Metric(outside, changed, 0.0, below=True))
    return metrics
