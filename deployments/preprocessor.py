"""The deployment that makes a spec's pictures and files ready to draw from."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from deployments.faults import service_errors
from gateway.errors import ModelError, ValidationErrors
from gateway.fetching import Fetcher, FetchLimits
from gateway.files.opening import files_of
from gateway.pictures import PictureReader
from gateway.settings import GatewaySettings
from pipelines.events import Pixels
from pipelines.inputs import Inputs
from pipelines.preparing import LoraCatalogue, find_loras, prepare
from pipelines.spec import Control, Spec, Start


class Reads(Protocol):
    """The part of `gateway.pictures.PictureReader` that a replica uses."""

    async def read(self, source: str, field: str) -> Pixels: ...


class Preprocessor:
    """Fetches, decodes, resizes and annotates pictures, and finds the files of LoRAs."""

    def __init__(self, open_pictures: Callable[[], Reads], open_catalogue: Callable[[], LoraCatalogue]) -> None:
        self._pictures = open_pictures()
        self._catalogue = open_catalogue()

    async def prepare(self, spec: Spec) -> Inputs:
        """The inputs of `spec`. Raises ModelError for a picture or a LoRA that cannot be had."""
        with service_errors():
            loras = find_loras(spec, self._catalogue)
            sources = [spec.start] if spec.start is not None else []
            pictures = await self._read([*sources, *spec.controls])
            start = pictures.pop(0) if spec.start is not None else None
            return await asyncio.to_thread(prepare, spec, start, pictures, loras)

    async def _read(self, named: Sequence[Start | Control]) -> list[Pixels]:
        read = (self._pictures.read(one.image, one.field) for one in named)
        outcomes = await asyncio.gather(*read, return_exceptions=True)
        pictures: list[Pixels] = []
        faults: list[ModelError] = []
        for outcome in outcomes:
            if isinstance(outcome, ModelError):
                faults.append(outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                pictures.append(outcome)
        if faults:
            raise faults[0] if len(faults) == 1 else ValidationErrors(faults)
        return pictures


def pictures_of(settings: GatewaySettings) -> Reads:
    """A reader of clients' pictures with the settings' caps."""
    limits = FetchLimits(timeout_s=settings.fetch_timeout_s, allow_loopback=settings.allow_loopback_urls)
    fetcher = Fetcher(limits)
    return PictureReader(files_of(settings), fetcher, settings.max_image_bytes, settings.max_image_pixels)


def catalogue_of(family: Path) -> LoraCatalogue:
    """The catalogue of the family in that folder."""
    from pipelines.catalogue import Catalogue

    return Catalogue.open(family)
