"""Gate 7 as requests have it: holes that the inpaint endpoint's own defaults draw, about 1024 x 1024 in 8 steps."""

import random
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmarks.pocket.acceptance.defaults import pictures
from benchmarks.pocket.acceptance.inpaint import REACH, Mask, hole, share_changed, with_another_thing
from benchmarks.pocket.acceptance.metric import Metric
from benchmarks.pocket.acceptance.prompts import WANTED
from benchmarks.pocket.world.drawing import Pixels, draw
from benchmarks.pocket.world.exam import accuracy, held_out
from gateway.endpoints.fooocus import FooocusInpaintInput
from pipelines.drawing import Drawer
from pipelines.weights.family import Family

SIDE = 256  # of the pictures that are uploaded
NOWHERE = "data:image/png;base64,"  # the pictures are given decoded
ASKED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "defaults": {},
        "no styles": {"styles": []},
        "no styles, the whole picture": {
            "styles": [],
            "override_inpaint_options": True,
            "inpaint_respective_field": 1.0,
        },
    }
)


def asked(count: int) -> tuple[list[Pixels], list[Mask]]:
    """Pictures of something else than held-out captions say, and the masks of holes around it."""
    scenes, _ = held_out(count)
    before = [draw(with_another_thing(scene, random.Random(at)), SIDE, SIDE) for at, scene in enumerate(scenes)]
    return before, [255 * hole(scene.things[0], SIDE, None).astype(np.uint8) for scene in scenes]


def shares(drawer: Drawer, family: Family, kind: str, count: int, **more: Any) -> tuple[dict[str, float], float]:
    """In which of the holes an aspect is as the caption says, and the most that changed far from one.

    kind: a key of `ASKED`. more: fields of the request.
    """
    scenes, said = held_out(count)
    before, masks = asked(count)
    given = {"inpaint_image_url": NOWHERE, "mask_image_url": NOWHERE, **ASKED[kind], **more}
    specs = [
        FooocusInpaintInput.model_validate({"prompt": words, "seed": seed, **given}).spec()
        for seed, words in enumerate(said)
    ]
    uploads = [(picture, np.repeat(mask[:, :, None], 3, axis=2)) for picture, mask in zip(before, masks, strict=True)]
    drawn = pictures(drawer, family, specs, uploads)
    return accuracy(scenes, drawn), max(share_changed(*each) for each in zip(drawn, before, masks, strict=True))


def shows(drawer: Drawer, family: Family, count: int) -> list[Metric]:
    metrics = []
    for kind in ASKED:
        found, changed = shares(drawer, family, kind, count)
        metrics += [Metric(f"a request's hole, {kind}: {name}", found[name], WANTED[name]) for name in WANTED]
        metrics.append(
            Metric(f"a request's hole, {kind}: changed more than {REACH} px outside", changed, 0.0, below=True)
        )
    return metrics
