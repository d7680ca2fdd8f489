"""Pictures are drawn from the page, in a real browser."""

import pytest

from tests.gateway.playground.conftest import Tab
from tests.gateway.playground.painting import PaintingRunner

pytestmark = pytest.mark.usefixtures("dispatched")


async def test_a_prompt_and_enter_draw_the_first_picture(tab: Tab, runner: PaintingRunner) -> None:
    await tab.open()
    await tab.page.keyboard.press("Tab")
    await tab.field("prompt").locator("textarea").fill("a red cube")
    await tab.page.keyboard.press("Enter")
    await tab.state("done")
    picture = tab.page.locator("fs-pictures img")
    await picture.wait_for()
    assert await picture.evaluate("img => img.decode().then(() => img.naturalWidth)") == 256
    assert tab.sent == [{"prompt": "a red cube"}]
    await tab.page.screenshot(path="/tmp/play/first.png")
