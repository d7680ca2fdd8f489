"""A mask is painted over the picture that it belongs to, and is as large as that."""

import asyncio
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.gateway.playground.conftest import Tab
from tests.gateway.playground.painting import painted

WIDTH, HEIGHT = 320, 192
INITIATE = "**/rest/storage/upload/initiate*"
UPLOADED = "([address, before]) => address.value && address.value !== before"
MARKED = """([x, y]) =>
  document.querySelector(".painter canvas").getContext("2d").getImageData(x, y, 1, 1).data[3] > 127"""


def picture(width: int = WIDTH, height: int = HEIGHT) -> Any:
    file = BytesIO()
    Image.open(BytesIO(painted(3))).resize((width, height)).save(file, "PNG")
    return {"name": "hill.png", "mimeType": "image/png", "buffer": file.getvalue()}


class Painting:
    """The painter over a picture of the inpaint endpoint; places are in pixels of one of WIDTH x HEIGHT.

    times: how much larger the picture is.
    """

    def __init__(self, tab: Tab, times: int) -> None:
        self.times = times
        self.tab, self.mouse, self.keyboard = tab, tab.page.mouse, tab.page.keyboard
        self.dialog = tab.page.get_by_role("dialog", name="Paint what is to be drawn anew")
        self.touch: Any = None
        self.opening = tab.page.get_by_role("button", name="Paint the mask")

    @classmethod
    async def begin(cls, tab: Tab, times: int = 1) -> "Painting":
        await tab.open("/models/fal-ai/fooocus/inpaint")
        await (
            tab.field("inpaint_image_url")
            .locator("input[type=file]")
            .first.set_input_files(picture(times * WIDTH, times * HEIGHT))
        )
        await tab.field("inpaint_image_url").get_by_text("hill.png", exact=True).wait_for()
        return cls(tab, times)

    async def open(self) -> None:
        await self.opening.click()
        await self.dialog.wait_for()

    async def press(self, name: str) -> None:
        await self.dialog.get_by_role("button", name=name, exact=True).click()

    async def tool(self, name: str, size: int = 24) -> None:
        await self.dialog.get_by_text(name, exact=True).click()
        await self.dialog.get_by_role("slider").fill(str(size))

    async def at(self, x: float, y: float) -> tuple[float, float]:
        """Where on the screen a place is."""
        shown = await self.dialog.locator(".sheet img").bounding_box()
        return shown["x"] + x * shown["width"] / WIDTH, shown["y"] + y * shown["height"] / HEIGHT

    async def stroke(self, *places: tuple[float, float]) -> None:
        await self.mouse.move(*await self.at(*places[0]))
        await self.mouse.down()
        for place in places[1:]:
            await self.mouse.move(*await self.at(*place), steps=4)
        await self.mouse.up()

    async def fingers(self, kind: str, *places: tuple[float, float]) -> None:
        """Start, Move or End, at places of the screen."""
        self.touch = self.touch or await self.tab.page.context.new_cdp_session(self.tab.page)
        points = [{"x": x, "y": y, "id": at} for at, (x, y) in enumerate(places)]
        await self.touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})

    async def marks(self, *places: tuple[int, int]) -> list[bool]:
        return [await self.tab.page.evaluate(MARKED, [self.times * x, self.times * y]) for x, y in places]

    async def uploaded(self, by: str = "click") -> npt.NDArray[np.uint8]:
        """The file that becomes the field's value, (height, width)."""
        address = self.tab.field("mask_image_url").locator("input[type=text]")
        before = await address.input_value()
        use = self.dialog.get_by_role("button", name="Use this mask")
        await (use.press("Enter") if by == "press" else use.click())
        await self.tab.page.wait_for_function(UPLOADED, arg=[await address.element_handle(), before])
        url = await address.input_value()
        mask = Image.open(BytesIO(await (await self.tab.page.request.get(url)).body()))
        assert mask.format == "PNG"
        return np.asarray(mask.convert("L"))


async def test_what_the_mouse_paints_is_white_in_a_mask_of_the_pictures_size(tab: Tab, dispatched: None) -> None:
    painting = await Painting.begin(tab)
    await painting.open()
    await painting.tool("Brush", 24)
    await painting.stroke((80, 60), (240, 60))
    await painting.mouse.move(*await painting.at(300, 170))
    await painting.mouse.wheel(0, -600)  # closer, round that place
    await painting.stroke((300, 170))
    mask = await painting.uploaded()
    assert mask.shape == (HEIGHT, WIDTH)
    assert {*np.unique(mask)} == {0, 255}
    rows, columns = np.nonzero(mask[:120])
    # a line with round ends, 24 pixels thick
    assert np.allclose([rows.min(), rows.max(), columns.min(), columns.max()], [48, 71, 68, 251], atol=2)
    assert mask[60, 80:241].all()
    assert mask[170, 300]
    assert not mask[130, 100:260].any()
    await tab.page.get_by_role("button", name="Draw", exact=True).click()
    await tab.state("done")
    assert "/files/uploads/" in tab.sent[-1]["mask_image_url"]
    # and it is outlined what is read round it
    assert await tab.field("inpaint_image_url").locator(".read").count() == 1


@pytest.mark.long
async def test_strokes_are_erased_inverted_undone_and_cleared(tab: Tab) -> None:
    painting = await Painting.begin(tab)
    await painting.open()
    await painting.tool("Brush", 30)
    await painting.stroke((60, 96), (260, 96))
    await painting.tool("Eraser", 30)
    await painting.stroke((160, 96))
    places = (80, 96), (160, 96), (160, 20)
    assert await painting.marks(*places) == [True, False, False]
    await painting.press("Invert")
    assert await painting.marks(*places) == [False, True, True]
    await painting.keyboard.press("Control+z")
    await painting.press("Undo")
    assert await painting.marks(*places) == [True, True, False]
    await painting.press("Redo")
    assert await painting.marks(*places) == [True, False, False]
    await painting.press("Clear")
    assert await painting.marks(*places) == [False, False, False]
    await painting.press("Undo")
    assert await painting.marks(*places) == [True, False, False]


async def test_keys_alone_paint_a_mask(tab: Tab) -> None:
    painting = await Painting.begin(tab)
    await painting.opening.press("Enter")
    await painting.dialog.wait_for()
    before = int(await painting.dialog.get_by_role("slider").input_value())
    for key in (
        "]",
        "]",
        "[",
        "Space",
        "Shift+ArrowRight",
        "Shift+ArrowRight",
        "ArrowDown",
        "e",
        "Space",
        "+",
        "Control+ArrowLeft",
    ):
        await painting.keyboard.press(key)
    size = int(await painting.dialog.get_by_role("slider").input_value())
    assert size > before
    for _ in range(20):  # to the button
        await painting.keyboard.press("Tab")
        if await tab.page.evaluate("document.activeElement.textContent") == "Use this mask":
            break
    mask = await painting.uploaded("press")
    step = round(size / 4)
    assert mask[HEIGHT // 2, WIDTH // 2 - size // 2 + 2]
    assert not mask[HEIGHT // 2 + step, WIDTH // 2 + 2 * step]  # erased
    assert not mask[HEIGHT // 2, WIDTH // 2 - size]
    await tab.page.locator("button.paint:focus").wait_for()  # where it was opened


@pytest.mark.long
async def test_a_mask_is_gone_on_with_and_an_empty_one_is_none(tab: Tab) -> None:
    painting = await Painting.begin(tab)
    await painting.open()
    await painting.stroke((60, 60))
    await painting.keyboard.press("Escape")
    await painting.open()
    assert await painting.marks((60, 60)) == [True]  # closing loses nothing
    await painting.uploaded()
    await painting.open()
    await painting.stroke((240, 60))
    assert await painting.marks((60, 60), (240, 60), (150, 150)) == [True, True, False]
    mask = await painting.uploaded()
    assert (mask[60, 60], mask[60, 240], mask[150, 150]) == (255, 255, 0)
    await painting.open()
    await painting.press("Clear")
    await painting.press("Use this mask")
    await tab.field("mask_image_url").get_by_text("Drop or paste a picture here").wait_for()
    await tab.field("inpaint_image_url").get_by_text("Nothing of it is marked").wait_for()


@pytest.mark.long
async def test_a_finger_paints_and_two_zoom(tab: Tab) -> None:
    painting = await Painting.begin(tab, 5)
    await painting.open()
    (x, y), before = await painting.at(160, 96), await painting.dialog.locator(".sheet img").bounding_box()
    await painting.fingers("Start", (x - 40, y))
    await painting.fingers("Start", (x - 40, y), (x + 40, y))
    await painting.fingers("Move", (x - 60, y), (x + 60, y))
    await painting.fingers("Move", (x - 80, y), (x + 80, y))
    await painting.fingers("End")
    after = await painting.dialog.locator(".sheet img").bounding_box()
    assert 1.7 < after["width"] / before["width"] < 2.3
    assert abs((await painting.at(160, 96))[0] - x) < 8
    await painting.fingers("Start", await painting.at(160, 96))
    await painting.fingers("Move", await painting.at(180, 96))
    await painting.fingers("End")
    assert await painting.marks((160, 96), (180, 96), (120, 96)) == [True, True, False]


@pytest.mark.long
async def test_a_finger_paints_after_one_whose_end_was_not_seen(tab: Tab) -> None:
    painting = await Painting.begin(tab)
    await painting.open()
    await painting.fingers("Start", await painting.at(60, 60))
    await painting.keyboard.press("Escape")
    await painting.opening.wait_for()
    await painting.fingers("End")
    await painting.open()
    await painting.fingers("Start", await painting.at(240, 60))
    await painting.fingers("Move", await painting.at(260, 60))
    await painting.fingers("End")
    assert await painting.marks((60, 60), (250, 60)) == [True, True]


@pytest.mark.long
async def test_what_was_painted_outlives_an_upload_that_fails(tab: Tab) -> None:
    painting = await Painting.begin(tab)
    await painting.open()
    await painting.stroke((60, 60))
    await painting.uploaded()
    await painting.open()
    await painting.stroke((240, 60))
    tab.refused = 503
    await tab.page.route(INITIATE, lambda route: route.fulfill(status=503, json={"detail": "It is full."}))
    await painting.press("Use this mask")
    await tab.field("mask_image_url").get_by_text("could not be uploaded: It is full.").wait_for()
    await painting.open()
    assert await painting.marks((60, 60), (240, 60)) == [True, True]


@pytest.mark.long
async def test_what_is_painted_while_the_mask_before_is_uploaded_is_not_lost(tab: Tab) -> None:
    painting = await Painting.begin(tab)
    goes_on = asyncio.Event()

    async def hold(route: Any) -> None:
        await goes_on.wait()
        await route.continue_()

    await tab.page.route(INITIATE, hold)
    await painting.open()
    await painting.stroke((60, 60))
    await painting.press("Use this mask")
    await painting.open()
    await painting.stroke((240, 60))
    await painting.press("Close")
    goes_on.set()
    await tab.field("mask_image_url").get_by_text("mask.png", exact=True).wait_for()
    await painting.open()
    assert await painting.marks((60, 60), (240, 60)) == [True, True]


@pytest.mark.long
async def test_keys_are_told_where_they_moved_the_brush(tab: Tab) -> None:
    painting = await Painting.begin(tab)
    await painting.open()
    await painting.tool("Brush", 24)
    await painting.dialog.get_by_role("application").focus()
    await painting.keyboard.press("ArrowRight")
    told = painting.dialog.get_by_role("status")
    assert await told.text_content() == f"{WIDTH // 2 + 6} from the left, {HEIGHT // 2} from the top"
