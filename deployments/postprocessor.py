"""The deployment that turns pixels into the pictures of an answer."""

import asyncio
import base64
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from itertools import repeat
from typing import Any

from deployments.faults import service_errors
from gateway.files.base import FILES, Files, FileTerms
from gateway.files.output_names import OutputNames
from gateway.files.patience import PatientFiles
from gateway.media import CONTENT_TYPES, encode_image
from gateway.work import Delivery, Image
from pipelines.events import Drawn, Pixels
from pipelines.images.black_out import black_out


class Postprocessor:
    """Blacks out what may not be shown, encodes, and stores or inlines.

    open_names: called in the replica, for Serve logs what a deployment is given. patience_s: how long a picture waits
    for a store that is away before StoreUnavailable is raised.
    """

    def __init__(self, files: Files, open_names: Callable[[], OutputNames], patience_s: float) -> None:
        self._files = PatientFiles(files, patience_s, logging.getLogger("ray.serve"))
        self._names = open_names()

    async def deliver(
        self, request_id: str, delivery: Delivery, base_url: str, drawn: Drawn, nsfw: Sequence[bool]
    ) -> list[Image]:
        """The pictures of `drawn` as the client gets them, in their order."""
        with service_errors():
            images = black_out(drawn.images, nsfw)
            keys = [self._names.key(request_id, number, delivery.format) for number in range(len(images))]
            deliveries = map(self._deliver, keys, images, repeat(delivery), repeat(base_url))
            return await _together(deliveries)

    async def _deliver(self, key: str, pixels: Pixels, delivery: Delivery, base_url: str) -> Image:
        content = await asyncio.to_thread(encode_image, pixels, delivery.format)
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
        )


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
