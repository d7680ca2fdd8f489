"""The pages of the real service in a real browser: what a newcomer sees first, and what takes an engine to show."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.gateway.playground.conftest import browser_address, tabs  # noqa: F401 (fixtures)
from tests.gateway.playground.programs import CLIENTS, run_javascript, run_python
from tests.gateway.playground.test_looks import AXE, judged_in_both
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
async def test_each_kind_of_field_is_sent_as_it_was_set_and_drawn(tabs: Any, service: Service) -> None:  # noqa: F811
    tab = await tabs(service.base_url)
    await tab.open("/models/fal-ai/fooocus/image-prompt")
    await tab.unfold()
    await tab.field("image_prompt_1").locator("input[type=file]").first.set_input_files(picture())
    await tab.field("image_prompt_1").get_by_text("hill.png", exact=True).wait_for()
    await tab.field("image_prompt_1").get_by_text("CPDS").click()
    await tab.field("prompt").locator("textarea").fill("a red cube")
    await tab.field("seed").locator("input").fill("7")
    await tab.field("performance").get_by_text("Lightning").click()
    await tab.field("aspect_ratio").get_by_text("1152 × 896").click()
    await tab.field("guidance_scale").locator("input[type=range]").fill("7.5")
    await tab.field("num_images").locator("input[type=number]").fill("2")
    await tab.field("enable_safety_checker").locator("input").click()
    await tab.field("styles").locator("input[type=search]").fill("sai anime")
    await tab.field("styles").get_by_text("SAI Anime", exact=True).click()
    await tab.page.get_by_role("button", name="Draw", exact=True).click()
    await tab.state("done")
    assert await tab.pictures() == [1152, 1152]
    (asked,) = tab.sent
    first = asked.pop("image_prompt_1")
    assert "/files/uploads/" in first.pop("image_url")
    assert first == {"type": "CPDS"}
    assert asked == {
        "prompt": "a red cube",
        "seed": 7,
        "performance": "Lightning",
        "aspect_ratio": "1152x896",
        "guidance_scale": 7.5,
        "num_images": 2,
        "enable_safety_checker": False,
        "styles": ["Fooocus Enhance", "Fooocus V2", "Fooocus Sharp", "SAI Anime"],
    }


@pytest.mark.long
async def test_keys_alone_draw_and_look(tabs: Any, service: Service) -> None:  # noqa: F811
    tab = await tabs(service.base_url)
    await tab.open("/models/fal-ai/fast-fooocus-sdxl")
    await reach_by_tab(tab, "document.activeElement.closest('fs-field')?.dataset.name === 'prompt'")
    await tab.page.keyboard.type("a red cube")
    await tab.page.keyboard.press("Enter")
    await tab.state("done")
    await reach_by_tab(tab, "document.activeElement.getAttribute('aria-label') === 'Picture 1 in full'")
    await tab.page.keyboard.press("Enter")
    await tab.page.locator(".viewer p").wait_for()
    await tab.page.keyboard.press("Escape")
    await tab.page.locator(".viewer p").wait_for(state="hidden")


async def reach_by_tab(tab: Any, there: str) -> None:
    """Press the tabulator until this holds."""
    for _ in range(200):
        if await tab.page.evaluate(there):
            return
        await tab.page.keyboard.press("Tab")
    pytest.fail(f"no key leads to where {there}")


@pytest.mark.long
@pytest.mark.skipif(not AXE.is_file(), reason="there is no axe-core: `npm --prefix tests/clients ci` brings it")
async def test_axe_finds_no_serious_fault_in_what_was_drawn_nor_in_the_history(tabs: Any, service: Service) -> None:  # noqa: F811
    tab = await tabs(service.base_url)
    await tab.open("/models/fal-ai/fast-fooocus-sdxl")
    await tab.ask("a red cube")
    await tab.state("done")
    await tab.page.evaluate(AXE.read_text(encoding="utf-8"))
    faults = await judged_in_both(tab)
    for path in ("/requests", "/status"):
        await tab.open(path)
        await tab.page.evaluate(AXE.read_text(encoding="utf-8"))
        faults += await judged_in_both(tab)
    assert faults == []


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


@pytest.mark.long
async def test_a_dropped_picture_is_varied(tabs: Any, service: Service) -> None:  # noqa: F811
    tab = await tabs(service.base_url)
    await tab.open("/models/fal-ai/fooocus/upscale-or-vary")
    await tab.drop('fs-field[data-name="uov_image_url"] fs-image', picture()["buffer"], "dropped.png")
    await tab.field("uov_image_url").get_by_text("dropped.png", exact=True).wait_for()
    await tab.ask("a green hill")
    await tab.state("done")
    assert len(await tab.pictures()) == 1
    assert "/files/uploads/" in tab.sent[0]["uov_image_url"]


@pytest.mark.long
async def test_a_value_that_the_service_refuses_is_told_at_its_field(tabs: Any, service: Service) -> None:  # noqa: F811
    """Two of them; nothing is drawn."""
    tab = await tabs(service.base_url)
    await tab.open()
    await tab.unfold()
    await tab.field("guidance_scale").locator("input[type=number]").fill("99")
    await tab.field("loras").locator('[data-name="path"] input').first.fill("nowhere.safetensors")
    tab.refused = 422
    await tab.ask("a red cube")
    await tab.state("failed")
    assert "less than or equal to 30" in await tab.field("guidance_scale").locator(".error").text_content()
    await tab.field("guidance_scale").locator("input[type=number]").fill("4")
    await tab.ask("a red cube")
    await tab.state("failed")
    error = tab.field("loras").locator(".error:visible")
    await error.wait_for()
    assert "LoRA" in await error.text_content()
    assert await tab.page.locator("fs-field .error:visible").count() == 1


@pytest.mark.long
@pytest.mark.clients
async def test_copied_python_draws(tabs: Any, service: Service, tmp_path: Path) -> None:  # noqa: F811
    tab = await tabs(service.base_url)
    await check_drawn(tab, await run_python(tab, tmp_path))


@pytest.mark.long
@pytest.mark.clients
@pytest.mark.skipif(not (CLIENTS / "node_modules").is_dir(), reason="`npm --prefix tests/clients ci` brings the client")
async def test_copied_javascript_draws(tabs: Any, service: Service, tmp_path: Path) -> None:  # noqa: F811
    tab = await tabs(service.base_url)
    await check_drawn(tab, await run_javascript(tab, tmp_path))


async def check_drawn(tab: Any, said: str) -> None:
    """The program has printed the address of a picture of the size that was asked for."""
    address = said.split()[0]
    assert address.startswith(f"{tab.address}/files/outputs/")
    answer = await tab.page.request.get(address)
    assert Image.open(BytesIO(await answer.body())).size == (1024, 768)
