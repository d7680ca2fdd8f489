"""The pages of the real service in a real browser: what a newcomer sees first, and what takes an engine to show."""

import json
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.gateway.playground.conftest import browser_address, tabs  # noqa: F401 (fixtures)
from tests.gateway.playground.test_painter import HEIGHT, WIDTH, Painting, picture
from tests.integration.conftest import Service

pytestmark = pytest.mark.cluster


async def test_a_prompt_and_enter_draw_the_first_picture_of_a_cold_page(tabs: Any, service: Service) -> None:  # noqa: F811
    """Fifteen seconds: the size and steps are those that a newcomer gets, a megapixel."""
    tab = await tabs(service.base_url)
    await tab.open()
    await tab.ask("a red circle on a white background")
    await tab.state("done")
    assert await tab.pictures() == [1024]
    assert tab.sent == [{"prompt": "a red circle on a white background"}]
    first = await tab.page.evaluate("performance.getEntriesByType('resource').map((each) => each.name)")
    assert all(name.startswith((service.base_url, "blob:")) for name in first), json.dumps(first)


@pytest.mark.long
async def test_a_painted_hole_is_filled_and_the_rest_stays(tabs: Any, service: Service) -> None:  # noqa: F811
    painting = await Painting.begin(await tabs(service.base_url))
    tab = painting.tab
    await painting.open()
    await painting.tool("Brush", 48)
    await painting.stroke((100, 96), (180, 96))
    await painting.uploaded()
    await tab.ask("a red circle on a white background")
    await tab.state("done")
    address = await tab.page.locator("fs-pictures figure img").first.get_attribute("src")
    answer = await tab.page.request.get(f"{tab.address}{address}")
    drawn = Image.open(BytesIO(await answer.body())).convert("RGB").resize((WIDTH, HEIGHT))
    before = Image.open(BytesIO(picture()["buffer"])).convert("RGB")
    change = np.abs(np.asarray(drawn, np.int16) - np.asarray(before, np.int16)).mean(axis=2)
    assert change[80:112, 100:180].mean() > 20
    assert change[:, 260:].mean() < 4


@pytest.mark.long
async def test_stop_and_a_reload_reach_what_is_being_drawn(tabs: Any, service: Service) -> None:  # noqa: F811
    tab = await tabs(service.base_url)
    await tab.open()
    await tab.page.get_by_text("Quality", exact=True).click()
    await tab.ask("a blue square")
    await tab.state("running")
    await tab.page.reload()
    await tab.state("running")
    tab.refused = 499
    await tab.page.get_by_role("button", name="Stop").click()
    await tab.state("stopped")
