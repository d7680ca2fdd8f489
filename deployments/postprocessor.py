"""The deployment that turns pixels into the pictures of an answer."""

import asyncio
import base64
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

from deployments.faults import service_errors
from deployments.memory import return_large_blocks
from deployments.stage import StageLog
from gateway.files.availability import PatientFiles
from gateway.files.base import FILES, Files, FileTerms
from gateway.files.names import OutputNames
from gateway.images.codec import CONTENT_TYPES, encode_image
from gateway.images.metadata import Making, Metadata, UsedModel, lora_name, metadata
from gateway.monitoring.trace import Trace
from gateway.settings import OutputSettings, Scheme
from gateway.version import own_version
from gateway.work import Delivery, Image
from pipelines.catalogue import Catalogue
from pipelines.events import Pixels
from pipelines.images.black_out import black_out
from pipelines.needs import loras_of
from pipelines.prompts.assembly import Texts
from pipelines.spec import Spec
from pipelines.weights.integrity import sha256_of

NO_TEXTS = Texts((), (), "")  # of a picture that was enlarged and no more


class Postprocessor:
    """Blacks out what may not be shown, encodes, and stores or inlines.

    open_names: called in the replica, for Serve logs what a deployment is given. patience_s: how long a picture waits
    for a store that is away before StoreUnavailable is raised.
    """

    def __init__(
        self,
        files: Files,
        open_names: Callable[[], OutputNames],
        patience_s: float,
        output: OutputSettings,
        open_models: Callable[[], "Models"],
    ) -> None:
        """open_models: called where pictures say how they were made."""
        return_large_blocks()
        self._log = StageLog.of("deliver")
        self._files = PatientFiles(files, patience_s, logging.getLogger("ray.serve"))
        self._names = open_names()
        self._output = output
        self._models = None if output.metadata == "off" else open_models()

    async def deliver(
        self,
        request_id: str,
        delivery: Delivery,
        base_url: str,
        images: Pixels,
        objections: Sequence[float],
        spec: Spec,
        texts: Sequence[Texts] = (),
        trace: Trace | None = None,
    ) -> list[Image]:
        """The pictures as the client gets them, in their order; those with an objection above 0 are black.

        images: (n, height, width, 3) uint8 RGB. spec: what they were drawn from. texts: of each, where they were drawn
        from any. trace: whose they are, for the log.
        """
        with self._log.told(trace), service_errors():
            images = black_out(images, [each > 0 for each in objections])
            keys = [self._names.key(request_id, number, delivery.format) for number in range(len(images))]
            told: Sequence[Metadata | None] = [None] * len(images)
            if (scheme := self._output.metadata) != "off" and self._models is not None:
                told = await asyncio.to_thread(_told, self._models, scheme, images, spec, texts)
            deliveries = map(self._deliver, keys, images, told, repeat(delivery), repeat(base_url))
            return await _together(deliveries)

    async def _deliver(
        self, key: str, pixels: Pixels, told: Metadata | None, delivery: Delivery, base_url: str
    ) -> Image:
        content = await asyncio.to_thread(encode_image, pixels, delivery.format, self._output, told)
        content_type = CONTENT_TYPES[delivery.format]
        if delivery.inline:
            url = f"data:{content_type};base64,{base64.b64encode(content).decode('ascii')}"
        else:
            await self._files.put(key, content, content_type, partial(_terms, delivery))
            url = f"{base_url}{FILES}{key}"
        height, width = pixels.shape[:2]
        return Image(
            url=url,
            content_type=content_type,
            file_name=key.rpartition("/")[2],
            file_size=len(content),
            width=width,
            height=height,
            key=None if delivery.inline else key,
        )


class Models:
    """What the files of a family are called, and their hashes: as they were recorded, of a LoRA else by reading it."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._read: dict[Path, str] = {}

    def base(self) -> UsedModel:
        return UsedModel(self._catalogue.checkpoint.stem, self._recorded(self._catalogue.checkpoint))

    def refiner(self) -> UsedModel:
        path = self._catalogue.part("refiner")
        return UsedModel(path.stem, self._recorded(path))

    def lora(self, source: str) -> UsedModel:
        """One that the family does not have goes by the end of its address."""
        path = self._catalogue.lora(source)
        if path is None:
            return UsedModel(lora_name(source))
        if path not in self._read:
            self._read[path] = self._recorded(path) or sha256_of(path)
        return UsedModel(path.stem, self._read[path])

    def _recorded(self, path: Path) -> str | None:
        record = self._catalogue.file.files.get(path.relative_to(self._catalogue.root).as_posix())
        return record.sha256 if record else None


def _told(models: Models, scheme: Scheme, images: Pixels, spec: Spec, texts: Sequence[Texts]) -> list[Metadata]:
    """What each picture says of its making."""
    height, width = images.shape[1:3]
    size, number = (width, height), own_version()
    base, used = models.base(), loras_of(spec) if texts else []  # nothing draws a picture that is enlarged
    loras = tuple((lora, models.lora(lora.source)) for lora in used)
    refiner = models.refiner() if spec.refiner is not None else None
    found: list[Metadata] = []
    for seed, each in zip(spec.seeds[: len(images)], texts or [NO_TEXTS] * len(images), strict=False):
        positive = (*each.positive, *filter(None, [each.expanded]))
        made = Making(spec, size, seed, positive, each.negative, base, loras, number)
        told = replace(made, styles=each.styles, expansion=each.expanded, refiner=refiner)
        found.append(metadata(scheme, told))
    return found


def models_of(family: Path) -> Models:
    """The files of the family in that folder."""
    return Models(Catalogue.open(family))


def _terms(delivery: Delivery) -> FileTerms:
    expires_at = None if delivery.expires_in_s is None else time.time() + delivery.expires_in_s
    return FileTerms(delivery.owner, delivery.acl, expires_at)


async def _together(deliveries: Iterable[Coroutine[Any, Any, Image]]) -> list[Image]:
    """What all of them return. When one fails the others are cancelled: nobody would wait for them any more."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in deliveries]
    except ExceptionGroup as faults:
        raise faults.exceptions[0] from None
    return [task.result() for task in tasks]
