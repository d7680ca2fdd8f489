"""The deployment that says which pictures may not be shown."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from ray import serve

from deployments.faults import service_errors
from pipelines.catalogue import Catalogue
from pipelines.errors import DrawingFault
from pipelines.events import Drawn, Pixels
from pipelines.settings import DrawingSettings
from pipelines.weights.integrity import check_files


class Flags(Protocol):
    """The part of `pipelines.safety.SafetyChecker` that a replica uses."""

    def flags(self, images: Pixels) -> list[bool]: ...


class SafetyChecker:
    """Checks pictures of several requests in one forward pass."""

    async def __init__(self, open_checker: Callable[[], Flags | None]) -> None:  # type: ignore[misc]  # Serve awaits it
        """open_checker: answers None where there is none; then no picture may come here."""
        self._checker = await asyncio.to_thread(open_checker)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.0)
    async def check(self, drawings: list[Drawn]) -> list[list[bool]]:
        """For each drawing, which of its pictures are flagged. Callers pass one drawing and get one list."""
        with service_errors():
            return await asyncio.to_thread(self._check, drawings)

    def _check(self, drawings: Sequence[Drawn]) -> list[list[bool]]:
        if self._checker is None:  # of a request from before the service had another family
            raise DrawingFault("its pictures cannot be checked, for the model family lacks safety_checker")
        by_size: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, drawn in enumerate(drawings):
            by_size[drawn.images.shape[1:]].append(place)
        found: list[list[bool]] = [[] for _ in drawings]
        for places in by_size.values():
            flags = iter(self._checker.flags(np.concatenate([drawings[place].images for place in places])))
            for place in places:
                found[place] = [next(flags) for _ in drawings[place].images]
        return found


def checker_of(drawing: DrawingSettings, device: str) -> Flags | None:
    """The family's checker on a torch device, where it has one, from files that are as they came. It imports torch
    then, so only the replica that checks calls it. Raises WeightsFault."""
    catalogue = Catalogue.open(drawing.family)
    if not catalogue.has("safety_checker"):
        return None
    from pipelines.safety import load

    path = catalogue.part("safety_checker")
    check_files(catalogue, drawing.verify_at_load, within=path)
    return load(path, device)
