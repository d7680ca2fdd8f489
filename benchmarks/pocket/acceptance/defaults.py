"""The last gate: what requests show that say only a prompt, with the styles, words and refiner that act by default.

With pictures to draw from, other gates ask so too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from benchmarks.pocket.acceptance.engine import take
from benchmarks.pocket.acceptance.metric import Metric
from benchmarks.pocket.world.drawing import Pixels
from benchmarks.pocket.world.exam import accuracy, held_out
from gateway.endpoints.fast_sdxl import FastFooocusSdxlInput
from gateway.endpoints.fooocus import FooocusInput
from pipelines.drawing import Drawer
from pipelines.expansion import load
from pipelines.preparing import find_loras, prepare
from pipelines.prompts.assembly import expanded
from pipelines.prompts.expanding import expand_specs, fitting
from pipelines.prompts.limits import MAX_CHUNKS
from pipelines.prompts.phrasebook import BUNDLED
from pipelines.prompts.tokenizer import tokenizers_of
from pipelines.spec import Spec
from pipelines.weights.family import Family

WANTED: Mapping[str, float] = MappingProxyType({"background": 0.9, "colour": 0.9, "shape": 0.8, "place": 0.8})
SLACK = 0.03  # by which shapes may be worse than those of 30 steps of the same UNet
WIDE: Mapping[str, Any] = MappingProxyType({"aspect_ratio": "1344x768"})
ASKED: Mapping[str, tuple[type[FooocusInput | FastFooocusSdxlInput], Mapping[str, Any]]] = MappingProxyType(
    {
        "fooocus": (FooocusInput, {}),
        "fooocus, 16:9": (FooocusInput, WIDE),
        "fast-fooocus-sdxl": (FastFooocusSdxlInput, {}),
        "fast-fooocus-sdxl, 16:9": (FastFooocusSdxlInput, {"image_size": "landscape_16_9"}),
    }
)
SLOW: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"fooocus, 30 steps": {"performance": "Speed"}, "fooocus, 30 steps, 16:9": {"performance": "Speed", **WIDE}}
)
AT_ONCE = 8


def specs(kind: str, said: Sequence[str]) -> list[Spec]:
    """As the service makes them of requests with a prompt and a seed each."""
    model, more = ASKED[kind] if kind in ASKED else (FooocusInput, SLOW[kind])
    return [model.model_validate({"prompt": text, "seed": seed, **more}).spec() for seed, text in enumerate(said)]


def pictures(
    drawer: Drawer, family: Family, asked: Sequence[Spec], shown: Sequence[Sequence[Pixels]] = ()
) -> list[Pixels]:
    """Of each spec, with its prompt expanded. shown: the decoded pictures of each, where they have any."""
    catalogue = family.catalogue
    expander = load(catalogue.part("expansion"), time_limit_s=math.inf)
    words = expand_specs(asked, expander, BUNDLED, fitting(tokenizers_of(catalogue.config), MAX_CHUNKS))
    found: list[Pixels] = []
    pictures_in = shown or [()] * len(asked)
    for at in range(0, len(asked), AT_ONCE):
        jobs = []
        some = slice(at, at + AT_ONCE)
        for spec, texts, seen in zip(asked[some], words[some], pictures_in[some], strict=True):
            inputs = prepare(spec, seen, find_loras(spec, catalogue))
            jobs.append((spec, replace(inputs, texts=expanded(inputs.texts, texts))))
        found += take(drawer, jobs)
    return found


def shares(drawer: Drawer, family: Family, kind: str, count: int) -> dict[str, float]:
    """In which of held-out prompts an aspect is as wanted."""
    scenes, said = held_out(count)
    return accuracy(scenes, pictures(drawer, family, specs(kind, said)))


def pleases(drawer: Drawer, family: Family, count: int, few: int) -> list[Metric]:
    """few: prompts of the 30 steps, which take an eighth of the prompts' time each."""
    metrics = []
    slow = {wide: shares(drawer, family, kind, few)["shape"] for wide, kind in zip((False, True), SLOW, strict=True)}
    for kind in ASKED:
        found = shares(drawer, family, kind, count)
        least = {**WANTED, "shape": max(WANTED["shape"], slow["16:9" in kind] - SLACK)}
        metrics += [Metric(f"{kind}, its defaults: {name}", found[name], wanted) for name, wanted in least.items()]
    return metrics
