"""The deployment that turns pixels into the pictures of an answer."""

import asyncio
import base64
import time
from collections.abc import Callable, Sequence
from itertools import repeat

from deployments.faults import service_errors
from gateway.files.base import FILES, Files, FileTerms
from gateway.files.output_names import OutputNames
from gateway.media import CONTENT_TYPES, encode_image
from gateway.work import Delivery, Image
from pipelines.events import Drawn, Pixels
from pipelines.images.black_out import black_out


class Postprocessor:
    """Blacks out what may not be shown, encodes, and stores or inlines.

    open_names: called in the replica, for Serve logs what a deployment is given.
    """

    def __init__(self, files: Files, open_names: Callable[[], OutputNames]) -> None:
        self._files, self._names = files, open_names()

    async def deliver(
        self, request_id: str, delivery: Delivery, base_url: str, drawn: Drawn, nsfw: Sequence[bool]
    ) -> list[Image]:
        """The pictures of `drawn` as the client gets them, in their order."""
        with service_errors():
            images = black_out(drawn.images, nsfw)
            keys = [self._names.key(request_id, number, delivery.format) for number in range(len(images))]
            deliveries = map(self._deliver, keys, images, repeat(delivery), repeat(base_url))
            return await asyncio.gather(*deliveries)

    async def _deliver(self, key: str, pixels: Pixels, delivery: Delivery, base_url: str) -> Image:
        content = await asyncio.to_thread(encode_image, pixels, delivery.format)
        content_type = CONTENT_TYPES[delivery.format]
        if delivery.inline:
            url = f"data:{content_type};base64,{base64.b64encode(content).decode('ascii')}"
        else:
            expires_at = None if delivery.expires_in_s is None else time.time() + delivery.expires_in_s
            terms = FileTerms(delivery.owner, delivery.acl, expires_at)
            await self._files.put(key, content, content_type, terms)
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
