"""The deployment that makes a spec's pictures and files ready to draw from."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic, time
from typing import Protocol, TypeVar

from deployments.faults import service_errors
from deployments.memory import return_large_blocks
from deployments.stage import StageLog
from deployments.weights import Finds
from gateway.errors import ModelError, ValidationErrors
from gateway.files.backends import files_of
from gateway.images.fetch import Fetcher, FetchLimits
from gateway.images.ssrf import NameResolver
from gateway.monitoring.trace import Trace
from gateway.picture_sources import ImageLoader
from gateway.settings import FixedSettings
from pipelines.events import Pixels
from pipelines.images.face import FaceFinder
from pipelines.inputs import FoundEmbedding, FoundLora, Inputs
from pipelines.needs import loras_of
from pipelines.preparing import EmbeddingCatalogue, LoraCatalogue, prepare
from pipelines.prompts.phrasebook import Phrasebook
from pipelines.settings import DrawingSettings
from pipelines.spec import Embedding, Lora, Picture, Spec

DECODED_AT_ONCE = 2  # requests

Outcome = TypeVar("Outcome")


class Reads(Protocol):
    """The part of `gateway.picture_sources.ImageLoader` that a replica uses."""

    async def fetch(self, source: str, field: str) -> bytes: ...

    async def decode(self, content: bytes, field: str) -> Pixels: ...


class Knows(LoraCatalogue, EmbeddingCatalogue, Protocol):
    """What there is of weights that clients may name."""


class Preprocessor:
    """Fetches, decodes, resizes and annotates pictures, finds the files of LoRAs and embeddings, makes texts.

    Files are fetched for many requests at once. But a small file may be a huge picture, so the pictures of few requests
    are decoded at once, which keep the cores busy all the same.
    """

    def __init__(
        self,
        open_pictures: Callable[[], Reads],
        open_catalogue: Callable[[], Knows],
        open_finder: Callable[[], Finds],
        open_faces: Callable[[], FaceFinder | None] = lambda: None,
        open_phrasebook: Callable[[], Phrasebook] = Phrasebook,
    ) -> None:
        """open_finder: to what the catalogue does not know. open_faces: gives None where there is no face detector."""
        return_large_blocks()
        self._log = StageLog.of("prepare")
        self._pictures = open_pictures()
        self._catalogue = open_catalogue()
        self._finder = open_finder()
        self._faces = open_faces()
        self._phrasebook = open_phrasebook()
        self._room = asyncio.Semaphore(DECODED_AT_ONCE)

    async def prepare(self, spec: Spec, owner: str = "", trace: Trace | None = None) -> Inputs:
        """The inputs of `spec`. Raises ModelError for a picture, a LoRA or an embedding that cannot be had.

        owner: the id of the caller's key, in whose share weights are fetched; empty where the service asks for none.
        trace: whose they are, for the log.
        """
        with self._log.told(trace), service_errors():
            began = monotonic()
            inputs = await self._prepared(spec, owner)
            return replace(inputs, took_s=monotonic() - began, ready_at=time())

    async def _prepared(self, spec: Spec, owner: str) -> Inputs:
        finding = (self._lora(lora, owner) for lora in loras_of(spec))
        loras = _sound(await asyncio.gather(*finding, return_exceptions=True))
        reading = (self._embedding(embedding, owner) for embedding in spec.embeddings)
        embeddings = _sound(await asyncio.gather(*reading, return_exceptions=True))
        known = partial(prepare, catalogue=self._catalogue, phrasebook=self._phrasebook)
        ready = partial(known, spec, loras=loras, embeddings=embeddings)
        if not spec.pictures:
            return await asyncio.to_thread(ready, pictures=())
        fetched = (self._pictures.fetch(picture.source, picture.field) for picture in spec.pictures)
        contents = _sound(await asyncio.gather(*fetched, return_exceptions=True))
        async with self._room:
            decoded = _sound([await self._decoded(*each) for each in zip(contents, spec.pictures, strict=True)])
            return await asyncio.to_thread(ready, pictures=decoded, faces=self._faces)

    async def _lora(self, lora: Lora, owner: str) -> FoundLora:
        path = self._catalogue.lora(lora.source) or await self._finder.find(lora.source, lora.field, "LoRA", owner)
        return FoundLora(lora, path)

    async def _embedding(self, embedding: Embedding, owner: str) -> FoundEmbedding:
        source, field = embedding.source, embedding.field
        path = self._catalogue.embedding(source) or await self._finder.find(source, field, "embedding", owner)
        return FoundEmbedding(embedding, path)

    async def _decoded(self, content: bytes, picture: Picture) -> Pixels | ModelError:
        try:
            return await self._pictures.decode(content, picture.field)
        except ModelError as fault:
            return fault


def _sound(outcomes: Sequence[Outcome | BaseException]) -> list[Outcome]:
    """The outcomes, unless there are faults among them: then all of these are raised together."""
    faults = [outcome for outcome in outcomes if isinstance(outcome, ModelError)]
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, ModelError):
            raise outcome
    if faults:
        raise faults[0] if len(faults) == 1 else ValidationErrors(faults)
    return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]


def pictures_of(settings: FixedSettings) -> Reads:
    """A reader of clients' pictures with the settings' caps."""
    limits = FetchLimits(timeout_s=settings.fetch_timeout_s, allow_loopback=settings.allow_loopback_urls)
    fetcher = Fetcher(limits, NameResolver())
    return ImageLoader(files_of(settings), fetcher, settings.max_image_bytes, settings.max_image_pixels)


def catalogue_of(settings: DrawingSettings) -> Knows:
    """The catalogue of the family in those settings, with the files of their folders."""
    from pipelines.catalogue import Catalogue

    return Catalogue.open(settings.family, settings.embeddings_folder, settings.loras_folder)


def faces_of(settings: DrawingSettings) -> FaceFinder | None:
    """The face detector of the family in those settings; None where it has none. Raises WeightsFault."""
    from pipelines.catalogue import Catalogue
    from pipelines.weights.integrity import check_files

    catalogue = Catalogue.open(settings.family)
    if not catalogue.has("face_detector"):
        return None
    detector = catalogue.part("face_detector")
    check_files(catalogue, settings.verify_at_load, within=detector)
    return FaceFinder(detector)
