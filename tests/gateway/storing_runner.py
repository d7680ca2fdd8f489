"""A scripted runner whose pictures are in the files store."""

from collections.abc import AsyncIterator

from PIL import Image

from gateway.files.base import Files
from gateway.work import Event, Finished, Work
from tests.gateway.fakes import FakeRunner
from tests.gateway.picture_files import saved

DRAWN = saved(Image.new("RGB", (8, 8), "blue"), "PNG")


class StoringRunner(FakeRunner):
    """Each request's one picture is `DRAWN`."""

    def __init__(self, files: Files) -> None:
        super().__init__()
        self._files = files

    async def run(self, work: Work, previews: bool = False) -> AsyncIterator[Event]:
        async for event in super().run(work, previews):
            if isinstance(event, Finished):
                for image in event.images:
                    assert image.key is not None
                    await self._files.put(image.key, DRAWN, "image/png")
            yield event
