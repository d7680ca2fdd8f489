"""The deployment that says which pictures may not be shown."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from ray import serve

from deployments.faults import service_errors
from pipelines.catalogue import Catalogue
from pipelines.errors import DrawingFault
from pipelines.events import Drawn, Pixels
from pipelines.needs import CHECKERS
from pipelines.settings import DrawingSettings
from pipelines.spec import SafetyCheckerVersion
from pipelines.weights.integrity import check_files


class Checks(Protocol):
    """The part of the checkers of `pipelines.safety` that a replica uses."""

    def objections(self, images: Pixels) -> list[float]: ...


Checkers = Mapping[SafetyCheckerVersion, Checks]


class SafetyChecker:
    """Checks pictures of several requests in one forward pass, by the version that each asks for."""

    async def __init__(self, open_checkers: Callable[[], Checkers]) -> None:  # type: ignore[misc]  # Serve awaits it
        """open_checkers: answers those that there are; no picture may come here for another."""
        self._checkers = await asyncio.to_thread(open_checkers)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.0)
    async def check(self, drawings: list[Drawn], versions: list[SafetyCheckerVersion]) -> list[list[float]]:
        """For each drawing, how much its pictures are objected to: above 0 one may not be shown.

        Callers pass one drawing and one version, and get one list.
        """
        with service_errors():
            return await asyncio.to_thread(self._check, drawings, versions)

    def _check(self, drawings: Sequence[Drawn], versions: Sequence[SafetyCheckerVersion]) -> list[list[float]]:
        alike: defaultdict[tuple[SafetyCheckerVersion, tuple[int, ...]], list[int]] = defaultdict(list)
        for place, (drawn, version) in enumerate(zip(drawings, versions, strict=True)):
            if version not in self._checkers:  # of a request from before the service had another family
                raise DrawingFault(f"its pictures cannot be checked, for the model family lacks {CHECKERS[version]}")
            alike[version, drawn.images.shape[1:]].append(place)
        found: list[list[float]] = [[] for _ in drawings]
        for (version, _), places in alike.items():
            images = np.concatenate([drawings[place].images for place in places])
            objections = iter(self._checkers[version].objections(images))
            for place in places:
                found[place] = [next(objections) for _ in drawings[place].images]
        return found


def checkers_of(drawing: DrawingSettings, device: str) -> Checkers:
    """The checkers that the family has on a torch device, from files that are as they came. It imports torch, where
    there are any, so only the replica that checks calls it. Raises WeightsFault."""
    catalogue = Catalogue.open(drawing.family)
    found: dict[SafetyCheckerVersion, Checks] = {}
    for version, part in CHECKERS.items():
        if not catalogue.has(part):
            continue
        from pipelines.safety import load

        path = catalogue.part(part)
        check_files(catalogue, drawing.verify_at_load, within=path)
        found[version] = load(path, device)
    return found
