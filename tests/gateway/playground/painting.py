"""A runner that draws something, so that there are pictures to look at."""

from collections.abc import AsyncIterator
from io import BytesIO

from PIL import Image as Picture
from PIL import ImageDraw, ImageFilter

from gateway.files.base import Files
from gateway.work import Event, Finished, Image, Note, Preview, Step, Work
from tests.gateway.fakes import FakeRunner, finished

SIDE = 256


def painted(seed: int, blur: int = 0, format: str = "PNG") -> bytes:
    """A sun over hills, in colours by the seed."""
    hue = (seed * 67) % 360
    picture = Picture.new("RGB", (SIDE, SIDE), f"hsl({hue}, 60%, 72%)")
    draw = ImageDraw.Draw(picture)
    left = 40 + seed * 41 % 120
    draw.ellipse((left, 40, left + 80, 120), fill=f"hsl({(hue + 40) % 360}, 90%, 62%)")
    draw.ellipse((-60, 150, 180, 380), fill=f"hsl({(hue + 150) % 360}, 35%, 40%)")
    draw.ellipse((90, 170, 340, 400), fill=f"hsl({(hue + 160) % 360}, 38%, 30%)")
    out = BytesIO()
    picture.filter(ImageFilter.GaussianBlur(blur)).save(out, format)
    return out.getvalue()


class PaintingRunner(FakeRunner):
    """One whose pictures are in the files store, one for each seed, with a line in the log, `note`."""

    def __init__(self, files: Files, steps: int = 3, pause_s: float = 0.0) -> None:
        super().__init__(steps, pause_s)
        self.files = files
        self.note = "Steps are drawn."

    async def run(self, work: Work, previews: bool = False) -> AsyncIterator[Event]:
        yield Note(self.note)
        yield Step(0, self.steps)  # it has begun, also where the gate is closed
        async for event in super().run(work, previews):
            match event:
                case Preview(step, steps):
                    contents = [painted(seed, 8 * (steps - step), "JPEG") for seed in work.spec.seeds]
                    yield Preview(step, steps, contents, "image/jpeg", SIDE, SIDE)
                case Finished():
                    yield await self._stored(work)
                case _:
                    yield event

    async def _stored(self, work: Work) -> Finished:
        images = []
        for number, seed in enumerate(work.spec.seeds):
            key, content = f"outputs/{work.request_id}/{number}.png", painted(seed)
            await self.files.put(key, content, "image/png")
            images.append(
                Image(
                    url=f"{work.base_url}/files/{key}",
                    content_type="image/png",
                    file_name=f"{number}.png",
                    file_size=len(content),
                    width=SIDE,
                    height=SIDE,
                    key=key,
                )
            )
        done = finished(work)
        return Finished(images=images, nsfw=[False] * len(images), timings=done.timings, prompt=done.prompt)
