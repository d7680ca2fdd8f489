"""The deployment that says which pictures may not be shown."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, assert_never

import numpy as np
from ray import serve

from deployments.faults import service_errors
from deployments.memory import return_large_blocks
from deployments.stage import StageLog
from gateway.monitoring.trace import Trace
from pipelines.catalogue import Catalogue
from pipelines.errors import DrawingFault
from pipelines.events import Pixels
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
        return_large_blocks()
        self._log = StageLog.of("check")
        self._checkers = await asyncio.to_thread(open_checkers)

    async def check(self, images: Pixels, version: SafetyCheckerVersion, trace: Trace | None = None) -> list[float]:
        """How much each picture of a request is objected to: above 0 it may not be shown. images: (n, height, width, 3)
        uint8 RGB. trace: whose they are, for the log."""
        with self._log.told(trace):
            match version:
                case "v1":
                    found: list[float] = await self._first(images)
                case "v2":
                    found = await self._second(images)
                case _:
                    assert_never(version)
            return found

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.0)
    async def _first(self, drawings: list[Pixels]) -> list[list[float]]:
        with service_errors():
            return await asyncio.to_thread(self._check, "v1", drawings)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.0)
    async def _second(self, drawings: list[Pixels]) -> list[list[float]]:
        with service_errors():
            return await asyncio.to_thread(self._check, "v2", drawings)

    def _check(self, version: SafetyCheckerVersion, drawings: Sequence[Pixels]) -> list[list[float]]:
        checker = self._checkers.get(version)
        if checker is None:  # of a request from before the service had another family
            raise DrawingFault(f"its pictures cannot be checked, for the model family lacks {CHECKERS[version]}")
        by_size: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, images in enumerate(drawings):
            by_size[images.shape[1:]].append(place)
        found: list[list[float]] = [[] for _ in drawings]
        for places in by_size.values():
            objections = iter(checker.objections(np.concatenate([drawings[place] for place in places])))
            for place in places:
                found[place] = [next(objections) for _ in drawings[place]]
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
