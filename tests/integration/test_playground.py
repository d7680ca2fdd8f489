"""The pages of the real service in a real browser: what a newcomer sees first."""

import json
from typing import Any

import pytest

from tests.gateway.playground.conftest import browser_address, tabs  # noqa: F401 (fixtures)
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
